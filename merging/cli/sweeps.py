"""Commands about sweeps."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from merging.cli.group import main
from merging.cli.options import (
    PathAsTyped,
    home_option,
    json_option,
    open_workspace,
    progress_on_stderr,
    scheduler_option,
)
from merging.cli.results import print_json, sweep_row
from merging.cli.text import print_sweep, print_sweeps
from merging.core.errors import RunError
from merging.core.text import counted

if TYPE_CHECKING:
    from merging.runs.workspace import Workspace


class _FirstWordOrFile(click.Group):
    """A group whose first command is meant where no command is named: ``sweep FILE`` is ``sweep start FILE``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = args and args[0] in (*self.commands, *ctx.help_option_names)
        return super().parse_args(ctx, args if named or not args else ["start", *args])


@main.group(cls=_FirstWordOrFile, no_args_is_help=True)
def sweep() -> None:
    """Try many methods, parameter values and task subsets: sweep FILE, or list, show, resume, cancel, delete."""


@sweep.command("start")
@click.argument("file", type=PathAsTyped(dir_okay=False, exists=True))
@scheduler_option
@home_option
@json_option
def sweep_start(file: Path, scheduler: str | None, home: Path, as_json: bool) -> None:
    """Try what the YAML FILE names; the best on validation wins. The word start can be left out.

    The same command goes on with a sweep that was stopped. Every trial is a run, and what was run before costs nothing.
    """
    from merging.sweeps import driver, read_definition

    workspace = open_workspace(home)
    _follow(driver.start(read_definition(file), workspace, scheduler or "").id, workspace, as_json)


@sweep.command("resume")
@click.argument("sweep_id")
@scheduler_option
@home_option
@json_option
def sweep_resume(sweep_id: str, scheduler: str | None, home: Path, as_json: bool) -> None:
    """Go on with a sweep that was cancelled or failed; trials that failed are tried again."""
    from merging.sweeps import driver

    workspace = open_workspace(home)
    _follow(driver.resume(sweep_id, workspace, scheduler).id, workspace, as_json)


@sweep.command("list")
@home_option
@json_option
def sweep_list(home: Path, as_json: bool) -> None:
    """All sweeps, newest first."""
    from merging.runs.table import RunStore
    from merging.sweeps import SweepStore
    from merging.sweeps.progress import look

    store = SweepStore(RunStore(home))
    found = [look(each.id, store) for each in store.all()]
    if as_json:
        print_json({"sweeps": [sweep_row(each) for each in found]})
    elif found:
        print_sweeps([sweep_row(each) for each in found])
    else:
        click.echo("no sweeps yet; try: merging sweep FILE, with a file as in docs/command-line.md")


@sweep.command("show")
@click.argument("sweep_id")
@home_option
@json_option
def sweep_show(sweep_id: str, home: Path, as_json: bool) -> None:
    """One sweep as far as it is: its trials, the best first, and what it found."""
    from merging.runs.table import RunStore
    from merging.sweeps import SweepStore
    from merging.sweeps.progress import look

    found = look(sweep_id, SweepStore(RunStore(home)))
    if as_json:
        print_json(found.as_json())
    else:
        print_sweep(found)


@sweep.command("cancel")
@click.argument("sweep_id")
@home_option
@json_option
def sweep_cancel(sweep_id: str, home: Path, as_json: bool) -> None:
    """Stop a sweep that goes on in another process, and the runs that it asked for."""
    from merging.sweeps import driver

    ended = driver.cancel(sweep_id, open_workspace(home))
    if as_json:
        print_json({"sweep": ended.id, "state": ended.state})
    else:
        click.echo(f"sweep {ended.id}: {ended.state}")


@sweep.command("delete")
@click.argument("sweep_id")
@click.option("--runs", is_flag=True, help="Delete the runs too that were made for it alone.")
@home_option
@json_option
def sweep_delete(sweep_id: str, runs: bool, home: Path, as_json: bool) -> None:
    """Remove a sweep; its runs stay in the list of runs unless --runs is given."""
    from merging.runs.table import RunStore
    from merging.sweeps import SweepStore

    deleted, gone = SweepStore(RunStore(home)).delete(sweep_id, runs)
    if as_json:
        print_json({"deleted": deleted, "runs": gone})
    else:
        click.echo(f"deleted: sweep {deleted}" + (f" and {counted(len(gone), 'run')}" if runs else ""))


def _follow(sweep_id: str, workspace: "Workspace", as_json: bool) -> None:
    """See a sweep to its end and print what it came to."""
    from merging.evaluation.clip import load_before_forks
    from merging.sweeps.foreground import follow

    load_before_forks()  # so that every trial starts warm
    found = follow(sweep_id, workspace, progress_on_stderr())
    if as_json:
        print_json(found.as_json())
    else:
        print_sweep(found)
    if found.sweep.state != "done":
        raise RunError(f"sweep {found.sweep.id} {found.sweep.state}: {found.sweep.error or 'the same command goes on'}")
