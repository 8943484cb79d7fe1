"""The command line: ``merging …``, or ``python -m merging …``.

With ``--json`` a command prints one JSON object on standard output and nothing else; progress goes to standard error.
Errors are one paragraph on standard error and exit status 1; wrong usage is exit status 2, Ctrl-C 130.
"""

from merging.cli import dashboard, merges, runs, suites, sweeps
from merging.cli.group import main

__all__ = ["dashboard", "main", "merges", "runs", "suites", "sweeps"]
