"""Evaluation images: each kind of data read from disk, brought to the size of a tower, and kept."""
