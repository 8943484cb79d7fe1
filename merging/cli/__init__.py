"""The command line: ``python -m merging …``."""

from merging.cli.commands import main

__all__ = ["main"]
