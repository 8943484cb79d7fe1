"""Experiments whose results are pages of ``docs/``: every number there can be made again by one command."""
