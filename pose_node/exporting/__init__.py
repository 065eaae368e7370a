"""The parts of `pose_node.export`: what is written, how, and whether it is right."""
