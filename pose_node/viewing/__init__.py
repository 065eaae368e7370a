"""Results to look at: images, people and scores over time, in the Rerun viewer.

The Rerun SDK is optional and imported by nothing before it is used.
"""
