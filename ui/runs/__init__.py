"""Runs as pages choose, word and follow them."""
