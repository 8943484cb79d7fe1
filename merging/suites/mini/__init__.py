"""The embedded suite: eight small CLIP image classifiers, their data, and the scripts that made them."""
