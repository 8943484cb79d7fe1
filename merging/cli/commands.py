"""The command line: ``python -m merging …``.

With ``--json`` a command prints one JSON object on standard output and nothing else; progress goes to standard error.
Errors are one paragraph on standard error and exit status 1; wrong usage is exit status 2, Ctrl-C 130.
"""

import errno
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from merging.cli.options import (
    INTERRUPTED,
    counted,
    device_option,
    end_with,
    home_option,
    image_limit_option,
    json_option,
    layout_option,
    open_workspace,
    print_accuracy,
    print_comparison,
    print_converted,
    print_downloaded,
    print_json,
    print_proposal,
    print_report,
    print_result,
    progress_on_stderr,
    read_datasets,
    read_method,
    read_settings,
    read_tasks,
    run_row,
    scheduler_option,
    set_option,
    split_option,
    suite_reference,
    sweep_row,
    tasks_option,
)
from merging.cli.text import print_methods, print_run, print_runs, print_similarity, print_sweep, print_sweeps
from merging.errors import MergingError, MissingPart, RunError, SpecError


class _Commands(click.Group):
    """Turns every error raised on purpose, and what the system refuses, into one paragraph and exit status 1.

    Ctrl-C ends with one line and the status that shells give for it.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MergingError as error:
            end_with(f"Error: {error}")
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read the output has enough; click ends quietly
                raise
            file = f"{Path(str(error.filename)).name}: " if error.filename else ""
            end_with(f"Error: {file}{error.strerror or error}")
        except KeyboardInterrupt:
            end_with("Interrupted; nothing is left half-written.", INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@image_limit_option
def main(image_limit: int | None) -> None:
    """Merge CLIP vision models by arithmetic on task vectors."""


@main.command()
@json_option
def suites(as_json: bool) -> None:
    """List the suites that come with the package and those downloaded, with how many of their models are here."""
    from merging.suites.suite import DEFAULT, builtin_suites, downloaded_suites, load_suite

    rows: list[dict[str, Any]] = []
    for name in sorted(builtin_suites(), key=lambda name: (name != DEFAULT, name)) + list(downloaded_suites()):
        suite = load_suite(name)
        missing = [str(each) for each in suite.missing_weights(suite.task_names)]
        rows.append(
            {
                "name": name, "title": suite.label, "architecture": suite.architecture_label,
                "tasks": list(suite.task_names), "default": name == DEFAULT, "missing": missing,
            }
        )  # fmt: skip
    if as_json:
        print_json({"suites": rows})
        return
    for row in rows:
        here = f"{counted(len(row['missing']), 'file')} missing" if row["missing"] else "all files here"
        what = f"{row['title']}, {row['architecture']}, {counted(len(row['tasks']), 'task')}"
        click.echo(f"{row['name']}  {what}, {here}")
        click.echo(f"  {', '.join(row['tasks'])}")


@main.command()
@json_option
def methods(as_json: bool) -> None:
    """List edits, merges and the published methods made of them, with their parameters."""
    from merging.catalogue import catalogue

    found = catalogue()
    if as_json:
        print_json(found)
        return
    print_methods(found)


@main.command()
@click.argument("suite")
@click.option("--accuracy", is_flag=True, help="Measure the fine-tuned models too: test far above validation is odd.")
@device_option
@home_option
@json_option
def check(suite: str, accuracy: bool, device: str, home: Path, as_json: bool) -> None:
    """Check every file of SUITE: weights, heads, images."""
    from merging import devices
    from merging.suites.report import check_suite
    from merging.suites.suite import load_suite

    workspace = open_workspace(home) if accuracy or home.is_dir() else None  # looking alone makes no folder
    report = check_suite(load_suite(suite), progress_on_stderr(), workspace, devices.resolve(device), accuracy)
    if as_json:
        print_json(report)
    else:
        print_report(report)
    if report["problems"]:
        sys.exit(1)


@main.command("init-suite")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--base", type=click.Path(path_type=Path), help="The pre-trained weights (default: found by its name).")
@click.option("--name", help="Name of the suite (default: the folder's).")
@click.option("--force", is_flag=True, help="Replace a suite.yaml that is there.")
@click.option("--dataset", "datasets", multiple=True, metavar="TASK=NAME",
              help="Task TASK is on the known data set NAME, such as SUN397; NAME none: on none of them.")  # fmt: skip
@click.option("--no-datasets", is_flag=True, help="Take no task for a known data set because of its name.")
@json_option
def init_suite_command(
    folder: Path, base: Path | None, name: str | None, force: bool, datasets: Sequence[str], no_datasets: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Write FOLDER/suite.yaml by looking at the checkpoints, heads and images in FOLDER, and check them.

    Tasks that are called like the data sets of the published suites (sun397, stanford-cars, …) get the class names,
    prompt templates and images of these.
    """
    from merging.suites.initialise import init_suite
    from merging.suites.report import check_suite
    from merging.suites.suite import load_suite

    made = init_suite(folder, base, name, force, read_datasets(datasets), not no_datasets)
    report = check_suite(load_suite(folder), progress_on_stderr())
    if as_json:
        print_json(
            {
                "written": str(folder / "suite.yaml"), "suite": made.content, "notes": made.notes,
                "missing": list(made.missing), "left_out": made.left_out, "check": report,
            }
        )  # fmt: skip
    else:
        click.echo(f"written: {folder / 'suite.yaml'}")
        print_proposal(made)
        print_report(report)
    if report["problems"]:
        sys.exit(1)


@main.command()
@click.argument("suite")
@tasks_option
@click.option("--edit", "edit_name", default="none", show_default=True, help="An edit, to see the cosines after it.")
@set_option
@device_option
@home_option
@json_option
def similarity(
    suite: str, tasks: str | None, edit_name: str, settings: Sequence[str], device: str, home: Path, as_json: bool
) -> None:
    """Cosine similarity of the task vectors of SUITE, before and after an edit."""
    from merging.similarity import similarity_report
    from merging.suites.suite import load_suite

    loaded = load_suite(suite)
    parameters = read_settings(settings)
    if parameters["merge"]:
        raise SpecError(f"similarity takes edit parameters only, got {sorted(parameters['merge'])} for the merge")
    report = similarity_report(
        loaded, open_workspace(home), read_tasks(loaded, tasks), edit_name, parameters["edit"], device,
        progress_on_stderr(),
    )  # fmt: skip
    if as_json:
        print_json(report)
        return
    print_similarity(report, edit_name)


@main.command()
@click.argument("suite")
@click.option("--preset", help="A published method, see `methods`; --set still changes its parameters.")
@click.option("--merge", "merge_name", help="How to merge (default: task_arithmetic).")
@click.option("--edit", "edit_name", help="What to do to the task vectors first (default: none).")
@set_option
@tasks_option
@device_option
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True,
              help="Precision of forward passes; merging is float32.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True)
@split_option
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File for the weights, .safetensors.")
@layout_option
@click.option("--evaluate", is_flag=True, help="Measure accuracy per task.")
@home_option
@json_option
def merge(
    suite: str, preset: str | None, merge_name: str | None, edit_name: str | None, settings: Sequence[str],
    tasks: str | None, device: str, dtype: str, seed: int, split: str, output: Path | None, layout: Any, evaluate: bool,
    home: Path, as_json: bool,
) -> None:  # fmt: skip
    """Merge the task models of SUITE."""
    from merging import devices
    from merging.pipeline import MergeSpec
    from merging.runs.perform import perform
    from merging.suites.suite import load_suite

    if preset is not None and (merge_name or edit_name):
        raise click.UsageError("give either --preset or --edit and --merge")
    if layout != "open_clip" and output is None:
        raise click.UsageError("--layout says how the file of --output is written; give both")
    loaded = load_suite(suite)
    spec = MergeSpec.build(
        suite=suite_reference(suite),
        tasks=read_tasks(loaded, tasks),
        **read_method(preset, edit_name, merge_name, read_settings(settings)),
        split=split,
        seed=seed,
        device=str(devices.resolve(device)),
        dtype=dtype,
        evaluate=evaluate,
    )
    unmeasurable = [task for task in spec.tasks if not loaded.measurable(task)]
    if evaluate and unmeasurable:
        raise MissingPart(
            f"--evaluate: tasks {unmeasurable} lack images or a head; add them in suite.yaml, "
            "choose others with --tasks, or merge without --evaluate"
        )
    run = perform(spec, open_workspace(home), output, progress_on_stderr(), layout)
    result = run.result or {}
    if as_json:
        print_json(
            {
                "run": run.id,
                "fingerprint": run.fingerprint,
                **{key: result[key] for key in ("accuracy", "average", "split", "images", "coefficients")},
                "forgetting": result.get("forgetting"),
                "edit": result["edit"],
                "merge": result["merge"],
                "seconds": result["seconds"]["total"],
                "peak_bytes": result["peak_bytes"],
                "warnings": result.get("warnings", []),
                "output": str(output) if output else None,
            }
        )
        return
    for warning in result.get("warnings", []):
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{spec.label}, {counted(len(spec.tasks), 'task')}, {result['seconds']['total']:.1f} s, run {run.id}")
    print_result(result, len(spec.tasks))
    if output:
        click.echo(f"written: {output}")


@main.command()
@click.argument("suite")
@click.option("--base", is_flag=True, help="The pre-trained model (zero-shot).")
@click.option("--individual", is_flag=True, help="Each fine-tuned model on its own task.")
@click.option("--checkpoint", type=click.Path(dir_okay=False, path_type=Path), help="A weight file, such as a merge.")
@tasks_option
@split_option
@device_option
@home_option
@json_option
def evaluate(
    suite: str, base: bool, individual: bool, checkpoint: Path | None, tasks: str | None, split: Any, device: str,
    home: Path, as_json: bool,
) -> None:  # fmt: skip
    """Accuracy per task on SUITE of the base model, the fine-tuned models, or a weight file."""
    from merging import devices
    from merging.suites.suite import load_suite

    given = {"--base": base, "--individual": individual, "--checkpoint": checkpoint is not None}
    named = [option for option, there in given.items() if there]
    if len(named) != 1:
        raise click.UsageError(
            f"give exactly one of --base, --individual and --checkpoint FILE; got {' and '.join(named) or 'none'}"
        )
    loaded = load_suite(suite)
    workspace = open_workspace(home)
    evaluator = workspace.evaluator(loaded, devices.resolve(device))
    chosen = read_tasks(loaded, tasks)
    if checkpoint is not None:
        accuracy = workspace.file_accuracy(evaluator, checkpoint, chosen, split)
    elif base:
        accuracy = workspace.base_accuracy(evaluator, chosen, split)
    else:
        accuracy = workspace.individual_accuracy(evaluator, chosen, split)
    if as_json:
        print_json(
            {"accuracy": accuracy.per_task, "average": accuracy.average, "split": split, "images": accuracy.images}
        )
    else:
        print_accuracy(accuracy.per_task, accuracy.average, split, accuracy.images)


@main.command()
@click.argument("suite")
@click.option("--presets", "--methods", "presets", help="Only these presets: names with commas (default: all).")
@tasks_option
@device_option
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path),
              help="Markdown file for the table, written once it is complete.")  # fmt: skip
@home_option
@json_option
def leaderboard(
    suite: str, presets: str | None, tasks: str | None, device: str, output: Path | None, home: Path, as_json: bool
) -> None:
    """Run all published methods on SUITE, λ chosen on validation, and print the table of test accuracies.

    The methods are the presets that `methods` lists, the cheapest first; --presets chooses among them. What was run
    before is taken from the history: Ctrl-C prints what there is, and the same command goes on.
    """
    from merging import devices
    from merging.checkpoints.writing import atomic_path, require_place
    from merging.leaderboard import Row, cheapest_first, leaderboard, not_run_yet, to_markdown
    from merging.presets import PRESETS, find_preset
    from merging.suites.suite import load_suite

    loaded = load_suite(suite)
    names = [name.strip() for name in presets.split(",")] if presets else list(PRESETS)
    chosen = cheapest_first(map(find_preset, dict.fromkeys(names)))
    if output:
        require_place(output)
    workspace, of_tasks, where = open_workspace(home), read_tasks(loaded, tasks), str(devices.resolve(device))
    left = [preset.title for preset in not_run_yet(chosen, suite_reference(suite), workspace, of_tasks, where)]
    to_run = f"; to run: {'; '.join(left)}" if left else ""
    click.echo(f"{counted(len(chosen), 'method')}, {len(chosen) - len(left)} run before{to_run}", err=True)
    rows: list[Row] = []
    try:
        for row in leaderboard(
            loaded, suite_reference(suite), workspace, chosen, of_tasks, where, progress_on_stderr()
        ):
            rows.append(row)
        if output:
            with atomic_path(output) as temporary:
                temporary.write_text(to_markdown(rows), encoding="utf-8")
    finally:  # a method that fails, or Ctrl-C, leaves the others' rows
        if as_json and rows:
            print_json({"suite": loaded.name, "split": "test", "rows": [row.as_json() for row in rows]})
        elif rows:
            click.echo(to_markdown(rows), nl=False)


class _FirstWordOrFile(click.Group):
    """A group whose first command is meant where no command is named: ``sweep FILE`` is ``sweep start FILE``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = args and args[0] in (*self.commands, *ctx.help_option_names)
        return super().parse_args(ctx, args if named or not args else ["start", *args])


@main.group(cls=_FirstWordOrFile, no_args_is_help=True)
def sweep() -> None:
    """Try many methods, parameter values and task subsets: sweep FILE, or list, show, resume, cancel, delete."""


@sweep.command("start")
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
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
    from merging.runs.store import RunStore
    from merging.sweeps import SweepStore
    from merging.sweeps.progress import look

    store = SweepStore(RunStore(home))
    found = [look(each.id, store) for each in store.all()]
    if as_json:
        print_json({"sweeps": [sweep_row(each) for each in found]})
    elif found:
        print_sweeps([sweep_row(each) for each in found])
    else:
        click.echo("no sweeps yet; try: python -m merging sweep FILE, with a file as in the README")


@sweep.command("show")
@click.argument("sweep_id")
@home_option
@json_option
def sweep_show(sweep_id: str, home: Path, as_json: bool) -> None:
    """One sweep as far as it is: its trials, the best first, and what it found."""
    from merging.runs.store import RunStore
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
    from merging.runs.store import RunStore
    from merging.sweeps import SweepStore

    deleted, gone = SweepStore(RunStore(home)).delete(sweep_id, runs)
    if as_json:
        print_json({"deleted": deleted, "runs": gone})
    else:
        click.echo(f"deleted: sweep {deleted}" + (f" and {counted(len(gone), 'run')}" if runs else ""))


def _follow(sweep_id: str, workspace: Any, as_json: bool) -> None:
    """See a sweep to its end and print what it came to."""
    from merging.suites.clip import load_open_clip
    from merging.sweeps.foreground import follow

    load_open_clip()  # before forking, so that every trial starts warm
    found = follow(sweep_id, workspace, progress_on_stderr())
    if as_json:
        print_json(found.as_json())
    else:
        print_sweep(found)
    if found.sweep.state != "done":
        raise RunError(f"sweep {found.sweep.id} {found.sweep.state}: {found.sweep.error or 'the same command goes on'}")


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--output", "folder", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder for the .safetensors files; the tree of folders that FILES are in is kept.")  # fmt: skip
@json_option
def convert(files: tuple[Path, ...], folder: Path, as_json: bool) -> None:
    """Take visual towers and heads out of FILES, whole pickled models too, without running what is in them."""
    from merging.checkpoints.writing import require_parent
    from merging.conversion import convert as converted
    from merging.conversion import targets

    require_parent(folder)
    rows, report = [], progress_on_stderr()
    for done, (file, target) in enumerate(targets(files, folder).items()):
        report(done, len(files), f"reading {file.name}")
        rows.append(converted(file, target))
        if not as_json:
            print_converted(rows[-1])
    if as_json:
        print_json({"files": [row.as_json() for row in rows]})
    if any(row.output is None for row in rows):
        sys.exit(1)


@main.command()
@click.argument("suite")
@click.option("--tasks", help="Comma-separated task names (default: all).")
@click.option("--data", is_flag=True, help="Get images too; those of all eight published tasks are many gigabytes.")
@json_option
def download(suite: str, tasks: str | None, data: bool, as_json: bool) -> None:
    """Get the missing files of SUITE from the Hugging Face hub, each compared with its checksum.

    SUITE may also be the id, owner/name, of a model repository that holds a suite.yaml. What broke off goes on where it
    stopped.
    """
    from merging.suites.download import download as downloaded

    names = None if tasks is None else [name.strip() for name in tasks.split(",")]
    found = downloaded(suite, names, data, progress_on_stderr())
    if as_json:
        print_json(found)
    else:
        print_downloaded(found)
    if found["missing"]:
        click.get_current_context().exit(1)


@main.command()
@click.option("--family", help="task_arithmetic or fusion_bench: which published checkpoints (default: both, apart).")
@click.option("--architecture", help="ViT-B-32, ViT-B-16 or ViT-L-14 (default: all).")
@json_option
def published(family: str | None, architecture: str | None, as_json: bool) -> None:
    """Print published accuracies of merging methods on CLIP, a table for each family of checkpoints."""
    from merging.published import published as known
    from merging.published import to_markdown

    tables = known().select(family, architecture)
    if as_json:
        found = known().model_dump(mode="json", exclude={"tables"})
        print_json({**found, "tables": [table.model_dump(mode="json") for table in tables]})
    else:
        click.echo(to_markdown(tables), nl=False)


@main.group(invoke_without_command=True)
@click.pass_context
def runs(context: click.Context) -> None:
    """What was run: list (also without a word), show, compare, export, delete."""
    if context.invoked_subcommand is None:
        context.invoke(runs_list)


@runs.command("list")
@home_option
@json_option
def runs_list(home: Path, as_json: bool) -> None:
    """All runs, newest first."""
    from merging.runs.store import RunStore

    store = RunStore(home)
    rows = [run_row(run) for run in store.all()]
    broken = store.unreadable()
    if as_json:
        unreadable = [{"run": run.id, "state": run.state, "created": run.created, "reason": run.reason}
                      for run in broken]  # fmt: skip
        print_json({"runs": rows, "unreadable": unreadable})
        return
    if rows:
        print_runs(rows)
    for one in broken:
        click.echo(f"{one.id}  unreadable  {one.reason}")
    if not rows and not broken:
        click.echo("no runs yet; try: python -m merging merge mini --merge task_arithmetic --evaluate")


@runs.command("show")
@click.argument("run_id")
@home_option
@json_option
def runs_show(run_id: str, home: Path, as_json: bool) -> None:
    """One run: its specification, state and result."""
    from merging.runs.store import RunStore

    run = RunStore(home).get(run_id)
    if as_json:
        spec = run.spec.model_dump(mode="json")
        print_json({**run_row(run), "spec": spec, "error": run.error, "log": run.log, "result": run.result})
    else:
        print_run(run)


@runs.command("delete")
@click.argument("run_id")
@home_option
@json_option
def runs_delete(run_id: str, home: Path, as_json: bool) -> None:
    """Remove a run and its files for good; it may be one that can't be read."""
    from merging.runs.store import RunStore

    deleted = RunStore(home).delete(run_id)
    if as_json:
        print_json({"deleted": deleted})
    else:
        click.echo(f"deleted: {deleted}")


@runs.command("export")
@click.argument("run_id")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@layout_option
@home_option
@json_option
def runs_export(run_id: str, folder: Path, layout: Any, home: Path, as_json: bool) -> None:
    """Write weights, recipe, model card and coefficients of a finished run into FOLDER."""
    from merging.checkpoints.writing import require_parent
    from merging.runs.export import export_run

    require_parent(folder)
    workspace = open_workspace(home)
    files = export_run(workspace.store.get(run_id), workspace, folder, layout)
    if as_json:
        print_json({"files": [str(file) for file in files]})
    else:
        click.echo("\n".join(f"written: {file}" for file in files))


@runs.command("compare")
@click.argument("run_ids", nargs=-1, required=True, metavar="ID ID …")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Also write a report, one HTML file.")
@home_option
@json_option
def runs_compare(run_ids: tuple[str, ...], html: Path | None, home: Path, as_json: bool) -> None:
    """Compare finished runs with the first of them, image by image: intervals and tests per task."""
    from merging.checkpoints.writing import require_place
    from merging.context import Context
    from merging.runs.compare import compare_runs, comparison_row
    from merging.runs.comparison_report import write_report

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
@click.argument("recipe", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option("--suite", help="The suite with its checkpoints, where the recipe's is not built in.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), required=True,
              help="File for the weights, .safetensors.")  # fmt: skip
@home_option
@json_option
def replay(recipe: Path, suite: str | None, output: Path, home: Path, as_json: bool) -> None:
    """Make the weights of an exported RECIPE again, on the CPU, and compare them with those that were exported."""
    from merging.runs import recipe as recipes
    from merging.suites.suite import load_suite

    known = recipes.read_recipe(recipe)
    loaded = load_suite(suite or known.built_in_suite())
    found = recipes.replay(known, loaded, open_workspace(home), output, progress_on_stderr())
    if as_json:
        print_json({"output": str(output), "sha256": found.sha256, "identical": found.identical})
    else:
        click.echo(f"written: {output}\n{found.verdict(known)}")
    if not found.identical:
        click.get_current_context().exit(1)


@main.command()
@click.option("--once", is_flag=True, help="Stop when nothing is queued any more.")
@home_option
def worker(once: bool, home: Path) -> None:
    """Carry out queued runs until stopped. The dashboard starts one by itself."""
    from merging.runs.worker import Worker, sole_worker
    from merging.suites.clip import load_open_clip

    load_open_clip()  # before forking, so that every run starts warm
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    with sole_worker(home):
        Worker(open_workspace(home)).serve(once)
