"""Commands that measure merged models beyond the benchmark: corrupted images, unseen tasks, other numbers of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from merging.cli.group import main
from merging.cli.merges import chosen_presets
from merging.cli.options import (
    carrier_of,
    device_option,
    home_option,
    json_option,
    open_workspace,
    progress_on_stderr,
    read_device,
    read_names,
    read_tasks,
    read_unseen,
    scheduler_option,
    suite_argument,
    tasks_option,
)
from merging.cli.results import print_json
from merging.cli.text import print_generalisation, print_published, print_robustness, print_task_counts
from merging.core.errors import SpecError
from merging.core.text import counted, visible

if TYPE_CHECKING:
    from merging.methods.presets import Preset
    from merging.runs.jobs.model_job import ModelResult
    from merging.runs.jobs.parts import InParts
    from merging.runs.workspace import Workspace
    from merging.suites import Suite

Result = TypeVar("Result", bound="ModelResult")


def _presets_option(function: Any) -> Any:
    return click.option(
        "--presets",
        help="Published methods: names with commas, or `all` (default: task_arithmetic, awd_ta, adamerging and "
        "wudi_closed_form).",
    )(function)


@main.command()
@suite_argument
@_presets_option
@click.option("--corruptions", help="Names with commas (default: all seven).")
@click.option(
    "--severities",
    default="1,3,5",
    show_default=True,
    help="From 1 to 5, with commas; `ready`: as data sets of the hub carry them.",
)
@tasks_option
@device_option
@scheduler_option
@home_option
@json_option
def robustness(
    suite: str,
    presets: str | None,
    corruptions: str | None,
    severities: str,
    tasks: str | None,
    device: str,
    scheduler: str | None,
    home: Path,
    as_json: bool,
) -> None:
    """Accuracy of published methods on SUITE's test images, clean and corrupted.

    Weights are made once, λ chosen on clean validation images, and measured under every corruption and severity. A
    method that adapts on test images adapts on the corrupted ones, as published, and is shown adapted on clean ones
    beside. What was done before is taken from the history: after Ctrl-C the same command goes on.
    """
    from merging.runs import beyond
    from merging.runs.jobs.robustness import RobustnessResult
    from merging.suites.images.corruptions import CORRUPTIONS, severity_of
    from merging.suites.protocols import CORRUPTED, CORRUPTED_COLUMNS, CORRUPTED_TASKS, has_published_protocols
    from merging.suites.suite import load_suite, reference_of

    loaded = load_suite(suite)
    methods = chosen_presets(presets, beyond.AT_FIRST)
    names = list(CORRUPTIONS) if corruptions is None else read_names("--corruptions", corruptions)
    shifts = beyond.shifts_of(names, [severity_of(text) for text in read_names("--severities", severities)])
    merged, where = read_tasks(loaded, tasks), read_device(device, scheduler)
    beyond.require_measurable(loaded, merged, shifts)
    workspace, reference = open_workspace(home), reference_of(suite)
    jobs = [beyond.robustness_job(preset, reference, merged, shifts, where) for preset in methods]
    found = _as_named(presets, _done(methods, jobs, RobustnessResult, workspace, scheduler, where))
    first = found[0][1]
    rows, zero_shot = [row for one in found for row in beyond.robustness_of(*one)], beyond.zero_shot_of(first)
    if as_json:
        print_json({"suite": loaded.name, **beyond.robustness_report(rows, zero_shot, shifts), **_of_images(first)})
    else:
        print_robustness(rows, zero_shot, shifts, sum(first.counts.values()))
        _say_of_images(first)
        if has_published_protocols(loaded):
            titles = ["clean", *(CORRUPTIONS[name].short for name in CORRUPTED_COLUMNS[1:])]
            print_published(titles, CORRUPTED, f"Means over {', '.join(CORRUPTED_TASKS)}, by other corruptions. ")


@main.command()
@suite_argument
@_presets_option
@click.option("--leave", type=int, help="How many tasks to leave out, in every way or a sample (default: 2).")
@click.option(
    "--unseen",
    metavar="TASKS",
    help="In place of --leave: these tasks, names with commas, or `rest`; merged are those of --tasks, or all others "
    "where it is not given. Of the FusionBench ViT-B-32 suite also exp1 and exp2, the splits of the literature.",
)
@click.option("--most", type=int, default=10, show_default=True, help="At most so many ways, drawn by --seed.")
@click.option("--seed", type=int, default=0, show_default=True)
@tasks_option
@device_option
@scheduler_option
@home_option
@json_option
def generalise(
    suite: str,
    presets: str | None,
    leave: int | None,
    unseen: str | None,
    most: int,
    seed: int,
    tasks: str | None,
    device: str,
    scheduler: str | None,
    home: Path,
    as_json: bool,
) -> None:
    """Accuracy of published methods on tasks of SUITE that were merged and on tasks that were left out.

    No method looks at an image of an unseen task, and λ is chosen on validation images of the merged ones. Methods that
    give each task a model of its own are left out. What was done before is taken from the history: after Ctrl-C the
    same command goes on.
    """
    from merging.runs import beyond
    from merging.runs.jobs.generalisation import GeneralisationResult
    from merging.suites.protocols import published_split
    from merging.suites.suite import load_suite, reference_of

    if leave is not None and unseen is not None:
        raise click.UsageError("give either --leave or --unseen")
    loaded = load_suite(suite)
    methods = [each for each in chosen_presets(presets, beyond.AT_FIRST) if presets != "all" or not each.pair.localised]
    every, where = read_tasks(loaded, tasks), read_device(device, scheduler)
    if unseen is None:
        left_out = beyond.ways_of_leaving_out(every, 2 if leave is None else leave, most, seed)
    else:
        every, left_out = _split(loaded, every, unseen, tasks is not None)
    beyond.require_measurable(loaded, tuple(dict.fromkeys((*every, *(task for way in left_out for task in way)))))
    workspace, reference = open_workspace(home), reference_of(suite)
    jobs = [beyond.generalisation_job(preset, reference, every, left_out, where) for preset in methods]
    found = _as_named(presets, _done(methods, jobs, GeneralisationResult, workspace, scheduler, where))
    rows, first = [beyond.generalisation_of(*one) for one in found], found[0][1]
    if as_json:
        print_json({"suite": loaded.name, **beyond.generalisation_report(rows, first), **_of_images(first)})
        return
    print_generalisation(rows, first)
    _say_of_images(first)
    split = published_split(loaded, (unseen or "").strip())
    if split:
        print_published(["seen", *split.unseen, "unseen"], split.rows)


@main.command()
@suite_argument
@_presets_option
@click.option("--sizes", help="Numbers of tasks, with commas (default: four from 2 to all of them).")
@click.option("--subsets", type=int, default=3, show_default=True, help="At most so many of a size, drawn by --seed.")
@click.option("--seed", type=int, default=0, show_default=True)
@tasks_option
@device_option
@scheduler_option
@home_option
@json_option
def scaling(
    suite: str,
    presets: str | None,
    sizes: str | None,
    subsets: int,
    seed: int,
    tasks: str | None,
    device: str,
    scheduler: str | None,
    home: Path,
    as_json: bool,
) -> None:
    """Accuracy of published methods on SUITE over the number of merged tasks.

    Subsets of the tasks are merged, λ chosen on their validation images, and measured on their test images: mean and
    normalised accuracy, with the spread over the subsets of a size. What was done before is taken from the history:
    after Ctrl-C the same command goes on.
    """
    from merging.runs import beyond, task_counts
    from merging.runs.jobs.subsets import SubsetsResult
    from merging.suites.suite import load_suite, reference_of

    loaded = load_suite(suite)
    methods = chosen_presets(presets, beyond.AT_FIRST)
    every, where = read_tasks(loaded, tasks), read_device(device, scheduler)
    counts = task_counts.sizes_at_first(len(every)) if sizes is None else _whole_numbers("--sizes", sizes)
    chosen = task_counts.subsets_of(every, counts, subsets, seed)
    beyond.require_measurable(loaded, every)
    workspace, reference = open_workspace(home), reference_of(suite)
    jobs = [task_counts.subsets_job(preset, reference, every, chosen, where) for preset in methods]
    found = _as_named(presets, _done(methods, jobs, SubsetsResult, workspace, scheduler, where))
    if as_json:
        print_json({"suite": loaded.name, **task_counts.task_counts_report(found), **_of_images(found[0][1])})
    else:
        print_task_counts(task_counts.rows_by_count(found), sum(found[0][1].counts.values()))
        _say_of_images(found[0][1])


def _split(suite: Suite, usual: tuple[str, ...], unseen: str, named: bool) -> tuple[tuple[str, ...], list[Any]]:
    """What ``--unseen`` leaves to be merged, and the one way of leaving tasks out that it stands for.

    Args:
        suite: the suite.
        usual: what ``--tasks`` says, or the suite's usual tasks.
        unseen: what was typed.
        named: whether ``--tasks`` was given: then these are merged, else all that are not named here.
    """
    from merging.methods.spec import require_unseen
    from merging.suites.protocols import SPLITS, published_split

    name = unseen.strip()
    split = published_split(suite, name)
    if split and named:
        raise SpecError(
            f"--unseen {name}: this split of the literature says itself which tasks are merged; leave out --tasks"
        )
    if split:
        return tuple(suite.chosen(split.seen)), [split.unseen]
    if name in SPLITS and name not in suite.task_names:
        raise SpecError(
            f"--unseen {name}: a split of the literature, of the eight tasks of suite fusion_bench-ViT-B-32 alone; "
            f"suite {suite.name!r} has {', '.join(suite.task_names)}"
        )
    if name == "rest":
        return usual, [read_unseen(suite, usual, unseen)]
    left_out = read_unseen(suite, (), unseen)
    if named:
        require_unseen(left_out, usual)
    merged = tuple(task for task in usual if task not in left_out)
    if not merged:
        raise SpecError(f"--unseen {name}: these are all tasks that could be merged, so that none is left; name fewer")
    return merged, [left_out]


def _of_images(result: ModelResult) -> dict[str, Any]:
    """What is left out or odd of the images behind a result, for programs."""
    return {"skipped": result.skipped, "warnings": result.data_warnings}


def _say_of_images(result: ModelResult) -> None:
    """The same for people."""
    if result.about_images:
        click.echo(visible(result.about_images))


def _whole_numbers(option: str, text: str) -> list[int]:
    names = read_names(option, text)
    odd = [name for name in names if not name.isdecimal()]
    if odd or not names:
        raise SpecError(f"{option} {text[:60]!r}: expected whole numbers with commas, such as 1,3,5")
    return [int(name) for name in names]


def _done(
    methods: Sequence[Preset],
    jobs: Sequence[InParts],
    kind: type[Result],
    workspace: Workspace,
    scheduler: str | None,
    where: str,
) -> list[tuple[Preset, Result]]:
    """Every method with what its job found, here or on a cluster; says before what is to be done, and for how long."""
    from merging.runs.parts import known, outlook, results

    planned = outlook(methods, [known(job, workspace).left for job in jobs], workspace)
    todo = f"{counted(len(methods), 'method')}, {len(methods) - len(planned.methods)} done before"
    if planned.methods:
        merges = f"to do: {counted(planned.merges, 'merge')} with {'; '.join(planned.methods)}"
        todo = f"{todo}; {merges}; {planned.in_words}"
    click.echo(todo, err=True)
    by_title = {preset.title: job for preset, job in zip(methods, jobs, strict=True)}
    with carrier_of(scheduler, workspace, where) as carrier:
        found = list(results(by_title, kind, workspace, progress_on_stderr(), carrier))
    return list(zip(methods, found, strict=True))


def _as_named(presets: str | None, found: list[tuple[Preset, Result]]) -> list[tuple[Preset, Result]]:
    """In the order of ``--presets``; where that names none they stay as they were done, the cheapest first."""
    names = [name.strip() for name in (presets or "all").split(",")]
    return found if names == ["all"] else sorted(found, key=lambda one: names.index(one[0].name))
