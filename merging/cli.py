"""The command line: ``python -m merging …``.

With ``--json`` a command prints one JSON object on standard output and nothing else; progress goes to standard error.
Errors are one paragraph on standard error and exit status 1; wrong usage is exit status 2.
"""

import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from merging.cli_io import (
    counted,
    device_option,
    home_option,
    image_limit_option,
    json_option,
    layout_option,
    open_workspace,
    print_accuracy,
    print_comparison,
    print_converted,
    print_forgetting,
    print_json,
    print_matrix,
    print_proposal,
    print_report,
    print_storage,
    progress_on_stderr,
    read_method,
    read_settings,
    read_tasks,
    run_row,
    set_option,
    split_option,
    suite_reference,
    tasks_option,
)
from merging.errors import MergingError, MissingPart, SpecError


class _Commands(click.Group):
    """Turns every error raised on purpose into one paragraph and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MergingError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@image_limit_option
def main(image_limit: int | None) -> None:
    """Merge CLIP vision models by arithmetic on task vectors."""


@main.command()
@json_option
def suites(as_json: bool) -> None:
    """List the built-in suites."""
    from merging.suites.suite import DEFAULT, builtin_suites, load_suite

    found = [load_suite(name) for name in builtin_suites()]
    rows: list[dict[str, Any]] = [
        {
            "name": suite.name,
            "title": suite.label,
            "architecture": suite.architecture_label,
            "tasks": list(suite.task_names),
            "default": suite.name == DEFAULT,
        }
        for suite in found
    ]
    if as_json:
        print_json({"suites": rows})
        return
    for row in rows:
        click.echo(f"{row['name']}  {row['title']}, {row['architecture']}, {counted(len(row['tasks']), 'task')}")
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
    for kind in ("edits", "merges"):
        click.echo(f"{kind}:")
        for row in found[kind]:
            click.echo(f"  {row['name']:16} {row['title']}: {row['summary']} {row['paper']}".rstrip())
            for parameter in row["parameters"]:
                click.echo(f"      {parameter['name']} = {parameter['default']}  ({parameter['type']})")
    click.echo("presets (merge SUITE --preset NAME):")
    for row in found["presets"]:
        click.echo(f"  {row['name']:16} {row['title']}: {row['edit']} + {row['merge']}  {row['paper']}")


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
@json_option
def init_suite_command(folder: Path, base: Path | None, name: str | None, force: bool, as_json: bool) -> None:
    """Write FOLDER/suite.yaml by looking at the checkpoints, heads and images in FOLDER, and check them."""
    from merging.suites.initialise import init_suite
    from merging.suites.report import check_suite
    from merging.suites.suite import load_suite

    made = init_suite(folder, base, name, force)
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
    print_matrix(f"cosine, mean |cos| {report['before']['mean_abs']:.4f}", report["tasks"], report["before"]["cosine"])
    if edit_name != "none":
        title = f"after {edit_name}, mean |cos| {report['after']['mean_abs']:.4f}"
        print_matrix(title, report["tasks"], report["after"]["cosine"])


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
                "output": str(output) if output else None,
            }
        )
        return
    click.echo(f"{spec.label}, {counted(len(spec.tasks), 'task')}, {result['seconds']['total']:.1f} s, run {run.id}")
    if "scaling" in result["merge"]:
        click.echo(f"λ = {result['merge']['scaling']:g}, chosen on the validation split")
    if "storage" in result["merge"]:
        print_storage(result["merge"]["storage"], len(spec.tasks))
    if result["accuracy"]:
        print_accuracy(result["accuracy"], result["average"], result["split"], result["images"])
    if result.get("forgetting"):
        print_forgetting(result["forgetting"])
    if output:
        click.echo(f"written: {output}")


@main.command()
@click.argument("suite")
@click.option("--base", "which", flag_value="base", help="The pre-trained model (zero-shot).")
@click.option("--individual", "which", flag_value="individual", help="Each fine-tuned model on its own task.")
@click.option("--checkpoint", type=click.Path(dir_okay=False, path_type=Path), help="A weight file, such as a merge.")
@tasks_option
@split_option
@device_option
@home_option
@json_option
def evaluate(
    suite: str, which: str | None, checkpoint: Path | None, tasks: str | None, split: Any, device: str, home: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """Accuracy per task on SUITE of the base model, the fine-tuned models, or a weight file."""
    from merging import devices
    from merging.suites.suite import load_suite

    if (which is None) == (checkpoint is None):
        raise click.UsageError("give exactly one of --base, --individual and --checkpoint FILE")
    loaded = load_suite(suite)
    workspace = open_workspace(home)
    evaluator = workspace.evaluator(loaded, devices.resolve(device))
    chosen = read_tasks(loaded, tasks)
    if which == "individual":
        accuracy = workspace.individual_accuracy(evaluator, chosen, split)
    elif which == "base":
        accuracy = workspace.base_accuracy(evaluator, chosen, split)
    else:
        assert checkpoint is not None
        accuracy = workspace.file_accuracy(evaluator, checkpoint, chosen, split)
    if as_json:
        print_json(
            {"accuracy": accuracy.per_task, "average": accuracy.average, "split": split, "images": accuracy.images}
        )
    else:
        print_accuracy(accuracy.per_task, accuracy.average, split, accuracy.images)


@main.command()
@click.argument("suite")
@click.option("--presets", help="Comma-separated names of presets, see `methods` (default: all).")
@tasks_option
@device_option
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Markdown file for the table.")
@home_option
@json_option
def leaderboard(
    suite: str, presets: str | None, tasks: str | None, device: str, output: Path | None, home: Path, as_json: bool
) -> None:
    """Run all published methods on SUITE, λ chosen on validation, and print the table of test accuracies.

    What was run before is taken from the history, so an interrupted leaderboard goes on where it stopped.
    """
    from merging import devices
    from merging.checkpoints.writing import atomic_path
    from merging.leaderboard import leaderboard, to_markdown
    from merging.presets import PRESETS, find_preset
    from merging.suites.suite import load_suite

    loaded = load_suite(suite)
    names = [name.strip() for name in presets.split(",")] if presets else list(PRESETS)
    rows = list(
        leaderboard(
            loaded, suite_reference(suite), open_workspace(home), [find_preset(name) for name in names],
            read_tasks(loaded, tasks), str(devices.resolve(device)), progress_on_stderr(),
        )
    )  # fmt: skip
    if output:
        with atomic_path(output) as temporary:
            temporary.write_text(to_markdown(rows), encoding="utf-8")
    if as_json:
        print_json({"suite": loaded.name, "split": "test", "rows": [row.as_json() for row in rows]})
    else:
        click.echo(to_markdown(rows), nl=False)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--output", "folder", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder for the .safetensors files; the tree of folders that FILES are in is kept.")  # fmt: skip
@json_option
def convert(files: tuple[Path, ...], folder: Path, as_json: bool) -> None:
    """Take visual towers and heads out of FILES, whole pickled models too, without running what is in them."""
    from merging.conversion import convert as converted
    from merging.conversion import targets

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
    """What was run: list (also without a word), show, compare, export."""
    if context.invoked_subcommand is None:
        context.invoke(runs_list)


@runs.command("list")
@home_option
@json_option
def runs_list(home: Path, as_json: bool) -> None:
    """All runs, newest first."""
    from merging.runs.store import RunStore

    found = RunStore(home).all()
    if as_json:
        print_json({"runs": [run_row(run) for run in found]})
        return
    for run in found:
        average = f"{100 * run.result['average']:5.1f} %" if run.result and run.result["average"] is not None else ""
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created))
        click.echo(
            f"{run.id}  {when}  {run.state:9}  {run.spec.label:32} {counted(len(run.spec.tasks), 'task')}  {average}"
        )
    if not found:
        click.echo("no runs yet; try: python -m merging merge mini --merge task_arithmetic --evaluate")


@runs.command("show")
@click.argument("run_id")
@home_option
@json_option
def runs_show(run_id: str, home: Path, as_json: bool) -> None:
    """One run: its specification, state and result."""
    from merging.runs.store import RunStore

    run = RunStore(home).get(run_id)
    row = {**run_row(run), "spec": run.spec.model_dump(mode="json"), "error": run.error, "result": run.result}
    click.echo(json.dumps(row, indent=None if as_json else 2, ensure_ascii=False))


@runs.command("export")
@click.argument("run_id")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@layout_option
@home_option
@json_option
def runs_export(run_id: str, folder: Path, layout: Any, home: Path, as_json: bool) -> None:
    """Write weights, recipe, model card and coefficients of a finished run into FOLDER."""
    from merging.runs.export import export_run

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
    from merging.context import Context
    from merging.runs.compare import compare_runs, comparison_row
    from merging.runs.comparison_report import write_report

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
