"""Whole recordings through the pipeline: images, videos and bags in, files of results out."""
