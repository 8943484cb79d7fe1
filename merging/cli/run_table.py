"""Commands about the table of runs: finding runs, writing about them, deleting and restoring, moving, reporting."""

import re
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merging.cli.options import (
    PathAsTyped,
    SuiteName,
    form_options,
    home_option,
    json_option,
    open_workspace,
    progress_on_stderr,
)
from merging.cli.results import print_dtype, print_json, run_row
from merging.cli.runs import runs
from merging.cli.text import minute, print_runs, print_table, print_unreadable
from merging.core.errors import RunError
from merging.core.places import path_of
from merging.core.text import counted, visible

if TYPE_CHECKING:
    from merging.runs.listing import Facts, View
    from merging.runs.moving import Taken
    from merging.runs.table import RunStore
    from merging.weights.files.writing import Form

_NEWEST = 500  # runs that are listed unless more are asked for
_SECONDS = {"h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}


class _Since(click.ParamType[float]):
    """A time as ``7d``, ``12h``, ``2w`` or a date; as seconds since the epoch."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The time."""
        if isinstance(value, float):
            return value
        ago = re.fullmatch(r"(\d{1,5})([hdw])", str(value))
        if ago:
            return time.time() - int(ago[1]) * _SECONDS[ago[2]]
        try:
            return datetime.fromisoformat(str(value)).timestamp()
        except (ValueError, OverflowError, OSError):
            self.fail(f"{value!r} is no time; expected 7d, 12h, 2w or a date such as 2026-11-27", param, ctx)


def view_options(function: Any) -> Any:
    """Which runs, and in which order, given together as ``view``."""

    @wraps(function)
    def with_view(*args: Any, **given: Any) -> Any:
        from merging.runs.listing import View

        names = {"suites": "suites", "called": "methods", "tags": "tags", "states": "states"}
        names |= {"people": "people", "machines": "machines"}
        several: dict[str, Any] = {field: tuple(given.pop(name)) for name, field in names.items()}
        one = {name: given.pop(name) for name in ("search", "since", "starred", "sort")}
        return function(*args, view=View(**several, **one), **given)

    def several(option: str, name: str, about: str) -> Any:
        return click.option(option, name, multiple=True, metavar="TEXT", help=f"{about}; may be given several times.")

    options = (
        click.option("--search", default="", help="Words that stand in name, note, tags, method, suite, person or id."),
        several("--suite", "suites", "Of this suite, by the name in the list"),
        several("--method", "called", "Called so in the list"),
        several("--tag", "tags", "With this tag"),
        several("--state", "states", "queued, running, done, failed, cancelled or lost"),
        several("--who", "people", "Asked for by this person"),
        several("--machine", "machines", "Asked for on this machine"),
        click.option("--since", type=_Since(), help="Asked for since then: 7d, 12h, 2w or a date."),
        click.option("--star", "starred", is_flag=True, help="Marked with a star."),
        click.option(
            "--sort",
            type=click.Choice(["newest", "oldest", "best", "longest", "name"]),
            default="newest",
            show_default=True,
        ),
    )
    for option in reversed(options):
        with_view = option(with_view)
    return with_view


def chosen_runs(store: "RunStore", view: "View", run_ids: Sequence[str]) -> "list[Facts]":
    """Facts of the runs that are named, in that order, or else of those that a view shows.

    Raises:
        RunError: one that is named is not there, or is no merge.
    """
    from merging.runs.listing import listing

    facts = [one for one in listing(store) if not one.shipped]
    if not run_ids:
        return list(view.of(facts))
    by_id = {one.id: one for one in facts}
    whole = [store.get(run_id).id for run_id in run_ids]
    lacking = [run_id for run_id in whole if run_id not in by_id]
    if lacking:
        raise RunError(f"run {lacking[0]} is no merge that was made here; see `runs list`")
    return [by_id[run_id] for run_id in dict.fromkeys(whole)]


@runs.command("list")
@view_options
@click.option(
    "--limit", type=click.IntRange(min=0), default=_NEWEST, show_default=True, help="At most so many; 0: all."
)
@home_option
@json_option
def runs_list(view: "View", limit: int, home: Path, as_json: bool) -> None:
    """Runs, newest first: all of them, or those that the options ask for."""
    from merging.runs.listing import View, listing, others, read_runs, unreadable
    from merging.runs.table import RunStore

    store = RunStore(home)
    every = listing(store)
    wanted = view.of(every)
    shown = wanted[:limit] if limit else wanted
    rows = [run_row(run) for run in read_runs(store, shown)]
    broken = unreadable(store) if view == View() else []
    if as_json:
        reasons = [{"run": run.id, "state": run.state, "created": run.created, "reason": run.reason} for run in broken]
        print_json({"runs": rows, "matching": len(wanted), "all": len(every), "unreadable": reasons})
        return
    if rows:
        print_runs(rows)
    print_unreadable(broken)
    if len(shown) < len(wanted):
        click.echo(f"the first {len(shown):,} of {len(wanted):,} runs; --limit 0 lists all of them")
    if not every and not broken:
        click.echo("no runs yet; try: merging merge mini --merge task_arithmetic --evaluate")
        if count := others(store):
            click.echo(f"({counted(count, 'job')} of other kinds, such as `robustness`, whose commands show them)")
    elif not rows and not broken:
        click.echo(f"none of {counted(len(every), 'run')} is so")
    if store.journal.note:
        click.echo(f"note: {store.journal.note}", err=True)


@runs.command("annotate")
@click.argument("run_id", metavar="ID")
@click.option("--name", help="What to call it, on one line; empty for nothing.")
@click.option("--note", help="What there is to say, in Markdown; - reads it from standard input; empty for nothing.")
@click.option("--tag", "added", multiple=True, metavar="TAG", help="Add a tag; may be given several times.")
@click.option("--untag", "removed", multiple=True, metavar="TAG", help="Take a tag off.")
@click.option("--star/--no-star", "star", default=None, help="Mark it with a star, or take that off.")
@home_option
@json_option
def runs_annotate(
    run_id: str,
    name: str | None,
    note: str | None,
    added: tuple[str, ...],
    removed: tuple[str, ...],
    star: bool | None,
    home: Path,
    as_json: bool,
) -> None:
    """Give a run a name, a note, tags or a star."""
    from merging.runs.annotations import MAX_NOTE, annotate, fitting_tags
    from merging.runs.table import RunStore

    store = RunStore(home)
    tags = None
    if added or removed:
        off = {tag.casefold() for tag in fitting_tags(removed)}
        tags = [tag for tag in fitting_tags([*store.get(run_id).tags, *added]) if tag.casefold() not in off]
    if note == "-":
        note = sys.stdin.read(2 * MAX_NOTE)
    run = annotate(store, run_id, name=name, note=note, tags=tags, star=star)
    if as_json:
        print_json(run_row(run))
        return
    parts = [run.name or run.label, "★" if run.star else "", ", ".join(run.tags), run.note]
    click.echo(visible("\n".join(filter(None, [f"run {run.id}", *parts]))))


@runs.command("delete")
@click.argument("run_ids", nargs=-1, required=True, metavar="ID ...")
@home_option
@json_option
def runs_delete(run_ids: tuple[str, ...], home: Path, as_json: bool) -> None:
    """Delete runs; for a day `runs restore` gives them back. One may be of another version, that can't be read."""
    from merging.runs.table import RunStore

    store = RunStore(home)
    gone = [store.delete(run_id) for run_id in run_ids]
    if as_json:
        print_json({"deleted": gone[0] if len(gone) == 1 else gone})
        return
    for run_id in gone:
        click.echo(f"deleted: {run_id}; for a day `merging runs restore {run_id[:6]}` gives it back")


@runs.command("restore")
@click.argument("run_ids", nargs=-1, metavar="[ID ...]")
@home_option
@json_option
def runs_restore(run_ids: tuple[str, ...], home: Path, as_json: bool) -> None:
    """Give back runs that were deleted within a day; without an ID, say which there are."""
    from merging.runs.deleted import deleted_runs, restore
    from merging.runs.table import RunStore

    store = RunStore(home)
    if run_ids:
        back = [restore(store, run_id) for run_id in run_ids]
        if as_json:
            print_json({"restored": back})
        else:
            click.echo("\n".join(f"restored: {run_id}" for run_id in back))
        return
    there = deleted_runs(store)
    if as_json:
        print_json({"deleted": [{**vars(one), "until": one.until} for one in there]})
        return
    if not there:
        click.echo("nothing was deleted within a day")
        return
    rows = [[one.id, one.name or one.label, one.state, minute(one.at), minute(one.until)] for one in there]
    print_table(["run", "what", "state", "deleted at", "gone at"], rows)


@runs.command("remove")
@click.argument("run_ids", nargs=-1, metavar="[ID ...]")
@click.option("--all", "every", is_flag=True, help="All that was deleted within a day.")
@home_option
@json_option
def runs_remove(run_ids: tuple[str, ...], every: bool, home: Path, as_json: bool) -> None:
    """Remove deleted runs for good, with their files, before their day is over; `runs restore` lists them."""
    from merging.runs.deleted import deleted_runs, remove_for_good
    from merging.runs.table import RunStore

    if every == bool(run_ids):
        raise click.UsageError("name the deleted runs to remove, or all of them by --all")
    store = RunStore(home)
    chosen = [one.id for one in deleted_runs(store)] if every else run_ids
    gone = [remove_for_good(store, run_id) for run_id in chosen]
    freed = sum(size for _, size in gone)
    if as_json:
        print_json({"removed": [run_id for run_id, _ in gone], "bytes": freed})
        return
    for run_id, _ in gone:
        click.echo(f"removed for good: {run_id}")
    click.echo(f"{freed / 1e6:,.1f} MB freed" if gone else "nothing was deleted within a day")


@runs.command("again")
@click.argument("run_id", metavar="ID")
@home_option
@json_option
def runs_again(run_id: str, home: Path, as_json: bool) -> None:
    """Queue a run again that failed, was cancelled or lost, on the files as they are now; a worker carries it out."""
    run = open_workspace(home).retry(run_id)
    if as_json:
        print_json(run_row(run))
    else:
        click.echo(f"{run.state}: {run.id}; the dashboard or `merging worker` carries it out")


@runs.command("cancel")
@click.argument("run_id", metavar="ID")
@home_option
@json_option
def runs_cancel(run_id: str, home: Path, as_json: bool) -> None:
    """Cancel a run that waits or is being carried out."""
    from merging.runs.table import RunStore

    store = RunStore(home)
    before = store.get(run_id)
    if before.state not in ("queued", "running"):
        raise RunError(f"run {before.id} is {before.state}; only what waits or is being carried out can be cancelled")
    run = store.cancel(before.id)
    if as_json:
        print_json(run_row(run))
    else:
        click.echo(f"cancelled: {run.id}" if run.state != "running" else f"{run.id} stops once its worker sees it")


@runs.command("usage")
@home_option
@json_option
def runs_usage(home: Path, as_json: bool) -> None:
    """What the folder for runs takes on disk."""
    from merging.runs.deleted import usage
    from merging.runs.table import RunStore

    found = usage(RunStore(home))
    if as_json:
        print_json(vars(found))
        return
    titles = {"table": "table of runs", "runs": "files of runs", "deleted": "of deleted ones", "cache": "cache"}
    print_table(
        ["what", "MB"], [[titles[name], f"{size / 1e6:,.1f}"] for name, size in vars(found).items()], right=["MB"]
    )


@runs.command("import")
@click.argument("file", type=PathAsTyped(exists=True, dir_okay=False))
@click.option(
    "--suite", "references", type=SuiteName(), multiple=True, metavar="SUITE", help="A suite that the runs may be of."
)
@home_option
@json_option
def runs_import(file: Path, references: tuple[str, ...], home: Path, as_json: bool) -> None:
    """Take over the runs in FILE, which `runs export FILE` wrote, on another machine or for somebody else.

    What was done here already stays as it is. Runs of suites that are not known here are kept, too: their numbers are
    shown, and --suite names the suite.yaml of one that they may belong to.
    """
    from merging.runs.moving import import_runs
    from merging.suites.suite import load_suite

    workspace = open_workspace(home)
    suites = [load_suite(reference) for reference in references]
    for suite in suites:
        workspace.fingerprint(suite.base_checkpoint)
    taken = import_runs(workspace.store, file, {suite.reference: suite for suite in suites}, progress_on_stderr())
    if as_json:
        print_json(vars(taken))
    else:
        _print_taken(taken)
    if taken.refused:
        raise RunError(f"{counted(len(taken.refused), 'run')} of {file.name} could not be taken over")


def _print_taken(taken: "Taken") -> None:
    click.echo(f"imported: {counted(len(taken.new), 'run')} from {visible(taken.machine) or 'elsewhere'}")
    if taken.known:
        are = "was here already and stays as it is" if taken.known == 1 else "were here already and stay as they are"
        click.echo(f"{counted(taken.known, 'run')} {are}")
    for run_id in taken.differing:
        click.echo(f"  {run_id} has another average here than in the file")
    if taken.without_suite:
        click.echo(f"{counted(taken.without_suite, 'run')} of suites that are not known here; see --suite")
    for reason in taken.refused:
        click.echo(visible(f"refused: {reason}"), err=True)


@runs.command("report")
@click.argument("run_ids", nargs=-1, required=True, metavar="ID ...")
@click.option(
    "--format", "form", type=click.Choice(["html", "latex", "markdown"]), default="markdown", show_default=True
)
@click.option("--output", type=PathAsTyped(dir_okay=False), help="Where to write it (HTML: to a file; else printed).")
@home_option
@json_option
def runs_report(run_ids: tuple[str, ...], form: Any, output: Path | None, home: Path, as_json: bool) -> None:
    """One table of finished runs, the best in bold and ties marked by a paired test, with the protocol of it all.

    Any number of runs on the same images. In HTML two to four are compared image by image as well.
    """
    from merging.core.files import require_place
    from merging.methods.context import Context
    from merging.runs.comparison.runs_report import report_runs, write_runs_report

    if output is None and form == "html":
        raise click.UsageError("a report in HTML is written to a file; name it with --output")
    if output is not None:
        require_place(output)
    workspace = open_workspace(home)
    chosen = [workspace.store.get(run_id) for run_id in run_ids]
    text = report_runs(chosen, workspace, form, Context(on_progress=progress_on_stderr()))
    if output is not None:
        write_runs_report(output, text)
    if as_json:
        print_json(
            {"runs": [run.id for run in chosen], "file": output and str(output), "text": None if output else text}
        )
    else:
        click.echo(f"written: {output}" if output is not None else visible(text), nl=output is not None)


@runs.command("export")
@click.argument("run_id", metavar="[ID] TARGET")
@click.argument("folder", required=False, type=PathAsTyped(), metavar="")
@form_options
@view_options
@click.option(
    "--run", "run_ids", multiple=True, metavar="ID", help="Into a file: this run; may be given several times."
)
@click.option(
    "--weights", is_flag=True, help="Into a file: with the weights that no table of coefficients gives again."
)
@click.option("--force", is_flag=True, help="Into a file: replace one that is there.")
@home_option
@json_option
def runs_export(
    run_id: str,
    folder: Path | None,
    form: "Form",
    view: "View",
    run_ids: tuple[str, ...],
    weights: bool,
    force: bool,
    home: Path,
    as_json: bool,
) -> None:
    """Write runs into a file, or weights and recipe of the run ID into a folder.

    `runs export FILE` writes what is known of all runs, or of those that the options ask for, into one file, to be
    imported on another machine or by somebody else: settings, results, predictions as far as they are known, names and
    notes; no weights unless --weights is given, and no paths of this machine.

    `runs export ID FOLDER` writes weights, recipe, model card and coefficients of a finished run into FOLDER.
    """
    from merging.runs.listing import View
    from merging.weights.files.writing import PLAIN

    if folder is None:
        if form != PLAIN:
            raise click.UsageError("--layout, --dtype and --shard-size are for the weights of one run: ID FOLDER")
        file = path_of(run_id)
        if file.is_file() and not force:
            raise RunError(f"{file.name} is there already; nothing was written; --force replaces it")
        _export_many(file, view, run_ids, weights, home, as_json)
        return
    if view != View() or run_ids or weights or force:
        raise click.UsageError(
            "which runs, --weights and --force are for a file of runs; a folder is of the run ID alone"
        )
    from merging.core.files import require_parent
    from merging.runs.export.export import export_run
    from merging.suites.suite import load_suite

    require_parent(folder)
    workspace = open_workspace(home)
    run = workspace.store.get(run_id)
    files = export_run(run, workspace, folder, form)
    if as_json:
        print_json({"files": [str(file) for file in files]})
    else:
        click.echo("\n".join(f"written: {file}" for file in files))
        print_dtype(form, load_suite(run.spec.suite))


def _export_many(file: Path, view: "View", run_ids: Sequence[str], weights: bool, home: Path, as_json: bool) -> None:
    """Write runs into a file to be imported elsewhere."""
    from merging.core.files import require_place
    from merging.runs.moving import export_runs
    from merging.runs.table import RunStore

    require_place(file)
    store = RunStore(home)
    count = export_runs(store, file, chosen_runs(store, view, run_ids), weights, progress_on_stderr())
    if as_json:
        print_json({"runs": count, "file": str(file)})
    else:
        click.echo(f"written: {file}, {counted(count, 'run')}, {file.stat().st_size / 1e6:.1f} MB")
