"""Commands that look at task vectors, merge them, and measure what comes of it."""

import gc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from merging.cli.group import main
from merging.cli.options import (
    PathAsTyped,
    SuiteName,
    add_methods,
    carrier_of,
    device_option,
    form_options,
    home_option,
    json_option,
    measured_options,
    open_workspace,
    progress_on_stderr,
    read_device,
    read_settings,
    read_tasks,
    read_unseen,
    scheduler_option,
    set_option,
    split_option,
    suite_argument,
    tasks_option,
)
from merging.cli.results import print_accuracy, print_dtype, print_json, print_result, print_skipped
from merging.cli.text import print_similarity
from merging.core.errors import MissingPart, SpecError
from merging.core.places import path_of
from merging.core.text import counted

# What `merge --json` prints of a result besides time and memory
_PRINTED = {
    *("accuracy", "average", "split", "images", "skipped", "coefficients", "forgetting", "edit", "merge", "resident")
}


@main.command()
@suite_argument
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
    from merging.runs.similarity import similarity_report
    from merging.suites.suite import load_suite

    loaded = load_suite(suite)
    parameters = read_settings(settings)
    if parameters["merge"]:
        raise SpecError(f"similarity takes edit parameters only, got {sorted(parameters['merge'])} for the merge")
    report = similarity_report(
        loaded,
        open_workspace(home),
        read_tasks(loaded, tasks),
        edit_name,
        parameters["edit"],
        device,
        progress_on_stderr(),
    )
    if as_json:
        print_json(report)
        return
    print_similarity(report, edit_name)


@main.command()
@suite_argument
@click.option(
    "--preset",
    help="A published method, see `methods`, λ as in its paper; --set still changes its parameters.",
)
@click.option("--merge", "merge_name", help="How to merge (default: task_arithmetic).")
@click.option("--edit", "edit_name", help="What to do to the task vectors first (default: none).")
@set_option
@tasks_option
@device_option
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Of forward passes; merging is float32.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@split_option
@measured_options
@click.option("--output", type=PathAsTyped(dir_okay=False), help="File for the weights, .safetensors.")
@form_options
@click.option("--evaluate", is_flag=True, help="Measure accuracy per task.")
@scheduler_option
@home_option
@json_option
def merge(
    suite: str,
    preset: str | None,
    merge_name: str | None,
    edit_name: str | None,
    settings: Sequence[str],
    tasks: str | None,
    device: str,
    precision: str,
    seed: int,
    split: str,
    shift: str,
    unseen: str | None,
    output: Path | None,
    form: Any,
    evaluate: bool,
    scheduler: str | None,
    home: Path,
    as_json: bool,
) -> None:
    """Merge the task models of SUITE."""
    from merging.methods.presets import method_fields
    from merging.runs.export.weights import require_done
    from merging.runs.foreground import run_here
    from merging.runs.jobs.merge import MergeSpec
    from merging.suites.suite import load_suite, reference_of
    from merging.weights.files.writing import written_files

    if preset is not None and (merge_name or edit_name):
        raise click.UsageError("give either --preset or --edit and --merge")
    if not form.plain and output is None:
        raise click.UsageError(
            "--layout, --dtype and --shard-size say how the file of --output is written; give that too "
            "(the precision of forward passes is --precision)"
        )
    if not evaluate and (unseen is not None or shift != "clean"):
        raise click.UsageError("--shift and --unseen say what accuracy is measured on; give --evaluate too")
    loaded = load_suite(suite)
    merged = read_tasks(loaded, tasks)
    spec = MergeSpec.build(
        suite=reference_of(suite),
        tasks=merged,
        **method_fields(preset or (edit_name or "none", merge_name or "task_arithmetic"), read_settings(settings)),
        split=split,
        seed=seed,
        device=read_device(device, scheduler),
        dtype=precision,
        evaluate=evaluate,
        shift=shift,
        unseen=read_unseen(loaded, merged, unseen),
    )
    unmeasurable = [task for task in (*spec.tasks, *spec.unseen) if not loaded.measurable(task)]
    if evaluate and unmeasurable:
        raise MissingPart(
            f"--evaluate: tasks {unmeasurable} lack images or a head; add them in suite.yaml, "
            "choose others with --tasks, or merge without --evaluate"
        )
    gc.freeze()  # all that is loaded stays: to look through it for garbage takes an eighth of a second each time
    workspace = open_workspace(home)
    with carrier_of(scheduler, workspace, spec.device) as carrier:
        run = run_here(spec, workspace, output, progress_on_stderr(), form, carrier)
    result = require_done(run)
    if as_json:
        print_json(
            {
                "run": run.id,
                "fingerprint": run.fingerprint,
                **result.model_dump(mode="json", include=_PRINTED | ({"unseen"} if spec.unseen else set())),
                **({} if result.shift == "clean" else {"shift": result.shift}),
                "seconds": result.seconds["total"],
                "peak_bytes": result.peak_bytes,
                "warnings": run.warnings,
                "output": str(output) if output else None,
            }
        )
        return
    for warning in run.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{spec.label}, {counted(len(spec.tasks), 'task')}, {result.seconds['total']:.1f} s, run {run.id}")
    print_result(result, len(spec.tasks))
    for file in written_files(output) if output else ():
        click.echo(f"written: {file}")
    print_dtype(form, loaded)


@main.command()
@suite_argument
@click.option("--base", is_flag=True, help="The pre-trained model (zero-shot).")
@click.option("--individual", is_flag=True, help="Each fine-tuned model on its own task.")
@click.option(
    "--checkpoint", type=PathAsTyped(), help="A weight file, such as a merge, or a folder with a model or an adapter."
)
@tasks_option
@split_option
@device_option
@home_option
@json_option
def evaluate(
    suite: str,
    base: bool,
    individual: bool,
    checkpoint: Path | None,
    tasks: str | None,
    split: Any,
    device: str,
    home: Path,
    as_json: bool,
) -> None:
    """Accuracy per task on SUITE of the base model, the fine-tuned models, or a weight file."""
    from merging.core import devices
    from merging.suites.suite import load_suite
    from merging.weights.twins import notes_of

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
    of_file: list[str] = []
    others: list[str] = []
    if checkpoint is not None:
        accuracy = workspace.file_accuracy(evaluator, checkpoint, chosen, split)
        of_file = workspace.file_oddities(loaded, checkpoint)
    elif base:
        accuracy = workspace.base_accuracy(evaluator, chosen, split)
    else:
        accuracy = workspace.individual_accuracy(evaluator, chosen, split)
        others = notes_of({task: loaded.checkpoint(task) for task in chosen})
    others += evaluator.data_warnings()
    if as_json:
        print_json(
            {
                "accuracy": accuracy.per_task,
                "average": accuracy.average,
                "split": split,
                "images": accuracy.images,
                "skipped": accuracy.skipped,
                "warnings": [*of_file, *others],
            }
        )
    else:
        for warning in [*(f"{checkpoint.name if checkpoint else ''}: {one}" for one in of_file), *others]:
            click.echo(f"warning: {warning}", err=True)
        print_accuracy(accuracy.per_task, accuracy.average, split, accuracy.images)
        print_skipped({split: accuracy.skipped})


@main.command()
@suite_argument
@click.option("--presets", help="Only these presets: names with commas (default: all).")
@click.option(
    "--methods", multiple=True, help="A Python file with methods of your own; or, as --presets, names with commas."
)
@tasks_option
@device_option
@scheduler_option
@click.option(
    "--output",
    type=PathAsTyped(dir_okay=False),
    help="Markdown file for the table, written once it is complete.",
)
@home_option
@json_option
def leaderboard(
    suite: str,
    presets: str | None,
    methods: Sequence[str],
    tasks: str | None,
    device: str,
    scheduler: str | None,
    output: Path | None,
    home: Path,
    as_json: bool,
) -> None:
    """Run all published methods on SUITE, λ chosen on validation, and print the table of test accuracies.

    The methods are the presets that `methods` lists, the cheapest first; --presets chooses among them. What was run
    before is taken from the history: Ctrl-C prints what there is, and the same command goes on.
    For some methods this λ is not that of `merge --preset`; the command says for which.
    """
    from merging.core.files import atomic_path, require_place

    places = [each for each in methods if each.endswith(".py") or os.sep in each]
    for each in methods:
        if not each.strip() or (each in places and not path_of(each).exists()):
            raise SpecError(
                f"--methods {each!r}: there is no such file or folder; expected one, or names with commas and no file"
            )
    add_methods(click.get_current_context(), [path_of(each) for each in places])
    named = ",".join([*filter(None, [presets]), *(each for each in methods if each not in places)])

    from merging.methods.presets import PRESETS
    from merging.runs.leaderboard import (
        Row,
        leaderboard,
        not_run_yet,
        to_markdown,
        two_settings,
    )
    from merging.suites.suite import load_suite, reference_of

    loaded = load_suite(suite)
    for each in methods:
        if each not in (*places, *PRESETS) and path_of(each).exists():
            raise SpecError(
                f"--methods {each!r}: no published method, but a file or folder here; write ./{each} for it"
            )
    chosen = chosen_presets(named)
    if output:
        require_place(output)
    workspace, of_tasks, where = open_workspace(home), read_tasks(loaded, tasks), read_device(device, scheduler)
    left = [preset.title for preset in not_run_yet(chosen, reference_of(suite), workspace, of_tasks, where)]
    to_run = f"; to run: {'; '.join(left)}" if left else ""
    click.echo(f"{counted(len(chosen), 'method')}, {len(chosen) - len(left)} run before{to_run}", err=True)
    click.echo(two_settings(), err=True)
    rows: list[Row] = []
    try:
        with carrier_of(scheduler, workspace, where) as carrier:
            found = leaderboard(
                loaded, reference_of(suite), workspace, chosen, of_tasks, where, progress_on_stderr(), carrier
            )
            for row in found:
                rows.append(row)
        if output:
            with atomic_path(output) as temporary:
                temporary.write_text(to_markdown(rows), encoding="utf-8")
    finally:  # a method that fails, or Ctrl-C, leaves the others' rows
        if as_json and rows:
            print_json({"suite": loaded.name, "split": "test", "rows": [row.as_json() for row in rows]})
        elif rows:
            click.echo(to_markdown(rows), nl=False)


def chosen_presets(named: str | None, default: Sequence[str] | None = None) -> Any:
    """Presets by names with commas, or ``all``, the cheapest first.

    Args:
        named: what was typed.
        default: what stands for nothing; all by default.
    """
    from merging.methods.presets import PRESETS, find_preset
    from merging.runs.leaderboard import cheapest_first

    names: Sequence[str] = [name.strip() for name in named.split(",")] if named else list(default or PRESETS)
    return cheapest_first(map(find_preset, dict.fromkeys(PRESETS if named == "all" else names)))


@main.command()
@click.argument("recipe", type=PathAsTyped(dir_okay=False, exists=True))
@click.option("--suite", type=SuiteName(), help="The suite with its checkpoints, where the recipe's is not built in.")
@click.option(
    "--output",
    type=PathAsTyped(dir_okay=False),
    required=True,
    help="File for the weights, .safetensors.",
)
@home_option
@json_option
def replay(recipe: Path, suite: str | None, output: Path, home: Path, as_json: bool) -> None:
    """Make the weights of an exported RECIPE again, on the CPU, and compare them with those that were exported."""
    from merging.runs.export import recipe as recipes
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
