"""The command line: ``merging …``, or ``python -m merging …``.

With ``--json`` a command prints one JSON object on standard output and nothing else; progress goes to standard error.
Errors are one paragraph on standard error and exit status 1; wrong usage is exit status 2, Ctrl-C 130.
"""

import click

from merging.cli import beyond, dashboard, hosting, merges, own, run_table, runs, suites, sweeps
from merging.cli.group import main
from merging.cli.options import methods_option

__all__ = ["beyond", "dashboard", "hosting", "main", "merges", "own", "run_table", "runs", "suites", "sweeps"]


def _offer_methods(group: click.Group) -> None:
    """Let ``--methods`` stand after every command, too; the leaderboard sees to its own option of that name."""
    for command in group.commands.values():
        if isinstance(command, click.Group):
            _offer_methods(command)
        elif not any("--methods" in parameter.opts for parameter in command.params):
            methods_option(command)


_offer_methods(main)
