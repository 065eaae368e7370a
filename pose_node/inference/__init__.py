"""From images to people: letterbox, network, suppression of duplicates, back to image pixels."""
