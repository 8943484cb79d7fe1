"""Commands about what was run, and the worker that runs it."""

import json
import logging
from pathlib import Path
from typing import Any

import click

from merging.cli.group import main
from merging.cli.options import PathAsTyped, form_options, home_option, json_option, open_workspace, progress_on_stderr
from merging.cli.results import print_comparison, print_json, run_row
from merging.cli.text import print_run
from merging.core.text import counted


class _ListWithoutAWord(click.Group):
    """A group whose list is meant where no command is named, options and their environment variables included."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = args and (args[0] in ctx.help_option_names or not args[0].startswith("-"))
        return super().parse_args(ctx, args if named else ["list", *args])


@main.group(cls=_ListWithoutAWord)
def runs() -> None:
    """What was run: list (or no word), show, annotate, compare, report, cancel, delete, restore, export, import."""


@runs.command("show")
@click.argument("run_id")
@home_option
@json_option
def runs_show(run_id: str, home: Path, as_json: bool) -> None:
    """One run: its specification, state and result."""
    from merging.runs.table import RunStore

    run = RunStore(home).get(run_id)
    if as_json:
        spec, result = run.spec.model_dump(mode="json"), json.loads(run.result_json or "null")
        print_json({**run_row(run), "spec": spec, "error": run.error, "log": run.log, "result": result})
    else:
        print_run(run)


@main.command()
@click.argument("run_id", metavar="RUN")
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--public", is_flag=True, help="Let everybody read it (default: private).")
@form_options
@home_option
@json_option
def push(run_id: str, repository: str, public: bool, form: Any, home: Path, as_json: bool) -> None:
    """Upload weights, recipe and model card of the finished RUN to the Hugging Face hub, as repository OWNER/NAME.

    The repository is made, private, if it is not there; one that holds anything but this run is left alone. The token
    is HF_TOKEN, or that of `hf auth login`, and must be allowed to write.
    """
    from merging.runs.export.push import push_run

    workspace = open_workspace(home)
    done = push_run(workspace.store.get(run_id), workspace, repository, public, form, progress_on_stderr())
    if as_json:
        print_json(vars(done))
        return
    who = "public" if done.public else "private"
    size = f"{counted(len(done.files), 'file')}, {done.bytes / 1e6:.1f} MB"
    click.echo(f"pushed: https://huggingface.co/{done.hub} ({who}), {size}, commit {done.commit[:12]}")


@runs.command("compare")
@click.argument("run_ids", nargs=-1, required=True, metavar="ID ID …")
@click.option("--html", type=PathAsTyped(dir_okay=False), help="Also write a report, one HTML file.")
@home_option
@json_option
def runs_compare(run_ids: tuple[str, ...], html: Path | None, home: Path, as_json: bool) -> None:
    """Compare finished runs with the first of them, image by image: intervals and tests per task."""
    from merging.core.files import require_place
    from merging.methods.context import Context
    from merging.runs.comparison.compare import compare_runs, comparison_row
    from merging.runs.comparison.report import write_report

    if html is not None:
        require_place(html)
    workspace = open_workspace(home)
    chosen = [workspace.store.get(run_id) for run_id in run_ids]
    found = compare_runs(chosen, workspace, Context(on_progress=progress_on_stderr()))
    if html is not None:
        write_report(html, found, workspace)
    if as_json:
        print_json({**comparison_row(found), "html": None if html is None else str(html)})
        return
    print_comparison(found)
    if html is not None:
        click.echo(f"written: {html}")


@main.command()
@click.option("--once", is_flag=True, help="Stop when nothing is queued any more.")
@home_option
def worker(once: bool, home: Path) -> None:
    """Carry out queued runs until stopped. The dashboard starts one by itself."""
    from merging.evaluation.clip import load_before_forks
    from merging.runs.worker.serve import Worker, sole_worker
    from merging.sweeps.driver import SweepDrivers

    load_before_forks()  # so that every run starts warm
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    with sole_worker(home):
        workspace = open_workspace(home)
        Worker(workspace, SweepDrivers(workspace)).serve(once)
