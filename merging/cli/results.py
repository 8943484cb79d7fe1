"""What commands print of results: rows as JSON, and a few lines of text."""

import json
import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from merging.core.text import counted, printed, shortened, visible

if TYPE_CHECKING:
    from merging.evaluation.paired import Comparison, TaskDifference
    from merging.runs import Run
    from merging.runs.comparison.compare import RunComparison
    from merging.runs.jobs.check import CheckedClass, CheckReport
    from merging.runs.jobs.download import DownloadReport
    from merging.runs.jobs.merge_result import BeforeAfter, Forgetting, MergeResult, MethodReport, Storage, Unseen
    from merging.suites import Suite
    from merging.suites.initialise import Proposal
    from merging.sweeps.progress import Snapshot
    from merging.weights.convert import Converted
    from merging.weights.files.writing import Form

_ALIKE = 24  # class folders, named as their classes, that are printed


def run_row(run: "Run") -> dict[str, Any]:
    """A run in a few JSON-ready values; ``scaling_chosen`` is the λ that was chosen on validation, if it was.

    ``units`` says whether settings made for CLIP's weights were taken as printed, and why.

    ``remaining``, of a run that forgets, is what to look at in place of ``average``, see
    :class:`merging.runs.jobs.merge_result.Forgetting`.
    """
    result = run.merged
    forgetting = result.forgetting if result else None
    return {
        "run": run.id,
        "fingerprint": run.fingerprint,
        "state": run.state,
        "label": run.label,
        "suite": run.spec.suite_name,
        "tasks": list(run.spec.tasks),
        "scaling": run.spec.pair.scaling,
        "scaling_chosen": result.merge.scaling if result else None,
        "units": result.units if result else [],
        "created": run.created,
        "name": run.name,
        "note": run.note,
        "tags": list(run.tags),
        "star": run.star,
        "person": run.person,
        "machine": run.machine,
        "average": result.average if result else None,
        "forgets": list(run.spec.forgotten),
        "remaining": forgetting.remaining.model_dump() if forgetting and forgetting.remaining else None,
    }


def sweep_row(found: "Snapshot") -> dict[str, Any]:
    """A :class:`merging.sweeps.progress.Snapshot` in a few JSON-ready values; ``best`` is the best on validation."""
    values = [trial.value for trial in found.trials if trial.value is not None]
    sweep = found.sweep
    return {
        "sweep": sweep.id,
        "state": sweep.state,
        "label": sweep.definition.label,
        "created": sweep.created,
        "total": sweep.definition.total,
        "finished": found.finished,
        "failed": found.failed,
        "best": max(values, default=None),
        "scheduler": sweep.scheduler,
        "error": sweep.error,
    }


def print_json(value: Any) -> None:
    """One JSON object on one line."""
    click.echo(json.dumps(value, ensure_ascii=False, allow_nan=False))


def print_report(report: "CheckReport") -> None:
    """What :func:`merging.runs.jobs.check.check_suite` found, a line a file."""
    words = {"error": "ERROR", "warning": "warn", "ok": "ok"}
    for row in report.files:
        click.echo(visible(f"{words[row.status]:<5}  {row.file}  {row.detail}"))
        for line in row.lines:
            click.echo(visible(f"       {line}"))
    for task, classes in groupby(report.folders, key=lambda one: one.task):
        click.echo(visible(f"class folders of {task}:"))
        for line in _class_lines(list(classes)):
            click.echo(visible(f"       {line}"))
    counts = f"{counted(report.problems, 'problem')}, {counted(report.warnings, 'warning')}"
    click.echo(f"{counts} in {counted(len(report.files), 'check')}")


def _class_lines(classes: "Sequence[CheckedClass]") -> list[str]:
    """Folder → class, with the images of each split; those named as their classes only as far as a screen goes."""
    named_alike = all(one.folder == one.name for one in classes)
    shown = classes[:_ALIKE] if named_alike else classes
    lines = []
    for one in shown:
        images = ", ".join(f"{split} {number}" for split, number in one.images.items())
        lines.append("".join(c if c.isprintable() else "?" for c in f"{one.folder} → {one.name}  {images}"))
    if len(shown) < len(classes):
        lines.append(f"and {len(classes) - len(shown)} more, each named as its class (--json has them all)")
    return lines


def print_dtype(form: "Form", suite: "Suite") -> None:
    """What became of the numbers of weights that were written in another precision than the suite's base."""
    from merging.weights.files.writing import dtype_in_words

    said = dtype_in_words(form.dtype, suite.base_checkpoint.infos)
    if said:
        click.echo(f"weights: {said}")


def print_proposal(proposal: "Proposal") -> None:
    """What :func:`merging.suites.initialise.init_suite` wrote, what it assumed, and what is missing."""
    content = proposal.content
    named = isinstance(content["architecture"], str)
    base = content["base"]
    click.echo(f"base: {base if isinstance(base, str) else base['hub']}")
    click.echo(f"architecture: {content['architecture'] if named else json.dumps(content['architecture'])}")
    for task in content["tasks"]:
        files = [task["checkpoint"], task.get("head"), task.get("data", {}).get("path")]
        known = [f"data set {task['dataset']}"] if "dataset" in task else []
        click.echo(f"task {task['name']}: {', '.join([*filter(None, files), *known])}")
    for key, note in proposal.notes.items():
        click.echo(f"{key}: {note}")
    for sentence in proposal.missing:
        click.echo(f"missing: {sentence}")
    for file, reason in proposal.left_out.items():
        click.echo(f"left out: {file}: {reason}")


def print_accuracy(per_task: dict[str, float], average: float, split: str, images: int) -> None:
    """Accuracy per task and on average."""
    width = max(len(name) for name in per_task) + 2
    for name, value in per_task.items():
        click.echo(f"{name:<{width}}{100 * value:6.1f} %")
    click.echo(f"{'average':<{width}}{100 * average:6.1f} %   ({split} split, {images} images)")


def print_comparison(found: "RunComparison") -> None:
    """Runs against the first of them: a line a task, and what it comes to."""
    from merging.evaluation.paired import HOW, VERDICTS, comparison_in_words
    from merging.methods.forgetting import TO_FORGET

    names = found.names
    width = max(len(task) for task in (*found.tasks, "average")) + 2
    for name, pair in zip(names[1:], found.pairs, strict=True):
        click.echo(comparison_in_words(pair, name, names[0]))
        for task, one in pair.tasks.items():
            test = f"p {one.p:.2g}, corrected {one.adjusted:.2g}: {VERDICTS[one.verdict]}"
            test += TO_FORGET if task in pair.forgotten else ""
            click.echo(f"{task:<{width}}{_change(one):<46}{test}")
        if pair.counted:
            click.echo(f"{'average':<{width}}{_change(pair)}".rstrip())
    click.echo(f"{found.split} split, {found.images} images. {HOW}")
    for said in dict.fromkeys(run.merged.about_images for run in found.runs if run.merged):
        if said:
            click.echo(visible(said))


def _change(one: "Comparison | TaskDifference") -> str:
    from merging.evaluation.paired import points

    numbers = f"{100 * one.reference:6.1f} % → {100 * one.accuracy:5.1f} %  {points(one.difference):>6}"
    return f"{numbers}  ({points(one.low)} to {points(one.high)})"


def print_storage(storage: "Storage", tasks: int) -> None:
    """How much localised models take, in megabytes of 10⁶ bytes."""
    sizes = {name: f"{bits / 8e6:.1f} MB" for name, bits in storage.model_dump().items()}
    click.echo(
        f"{counted(tasks, 'model')}, one a task: base {sizes['base']}, shared vector {sizes['vector']}, masks "
        f"{sizes['masks']} (compressed {sizes['masks_compressed']})"
    )
    click.echo(f"together {sizes['localised']}; the base and {tasks} fine-tuned models take {sizes['models']}")


def print_scaling(report: "MethodReport", clean: bool = False) -> None:
    """λ if it was chosen, and whether a larger one than those tried may do better.

    ``clean`` says that the images it was chosen on are, where others are not.
    """
    if report.scaling is None:
        return
    edge = "; it is the largest that was tried, so a larger one may do better" if report.at_edge else ""
    click.echo(f"λ = {printed(report.scaling)}, chosen on {'clean images of ' * clean}the validation split{edge}")


def print_result(result: "MergeResult", tasks: int) -> None:
    """What came of a merge of so many tasks: λ, sizes, accuracies, as far as there are any."""
    print_scaling(result.merge, clean=result.shift != "clean")
    for sentence in result.units:
        click.echo(textwrap.fill(visible(sentence), 100))
    if result.merge.storage is not None:
        print_storage(result.merge.storage, tasks)
    if result.forgetting:
        print_forgetting(result.forgetting)
    elif result.accuracy and result.average is not None:
        print_accuracy(result.accuracy, result.average, result.split, result.images or 0)
    if result.unseen and result.average is not None:
        print_unseen(result.unseen, result.average)
    if result.shift_in_words:
        click.echo(result.shift_in_words)
    print_skipped(result.skipped)


def print_unseen(found: "Unseen", average: float) -> None:
    """Accuracy on tasks that were not merged, and both means beside zero-shot; ``average`` is of the merged ones."""
    means = {"mean of merged tasks": (average, found.zero_shot_seen)}
    means["mean of unseen tasks"] = (found.average, found.zero_shot_average)
    rows = {**{f"unseen: {task}": (value, found.zero_shot[task]) for task, value in found.accuracy.items()}, **means}
    width = max(map(len, rows)) + 2
    click.echo(f"{'':<{width}}{'merged':>10}{'zero-shot':>10}")
    for name, values in rows.items():
        click.echo(f"{name:<{width}}" + "".join(f"{100 * value:8.1f} %" for value in values))


def print_skipped(skipped: dict[str, dict[str, int]]) -> None:
    """Images that results leave out, if there are some: split → task → number."""
    from merging.evaluation.accuracy import skipped_in_words

    if skipped_in_words(skipped):
        click.echo(skipped_in_words(skipped))


def print_forgetting(report: "Forgetting") -> None:
    """Accuracy before and after, of the tasks that are forgotten, added and kept, and the mean without the first."""
    from merging.methods.forgetting import GROUPS, weights_in_words

    click.echo(f"forgetting: {weights_in_words(report.weights)}")
    width = max(len(name) for group in GROUPS for name in report.rows(group)) + 2
    width = max(width, len("forgotten, mean") + 2)
    click.echo(f"{'':<{width}}{'zero-shot':>10}{'after':>10}")
    for group in GROUPS:
        mean = report.means.get(group)
        rows = {**report.rows(group), **({f"{group}, mean": mean} if mean else {})}
        for name, values in rows.items():
            click.echo(f"{name:<{width}}{_before_and_after(values)}")
    rest, measured = report.remaining, f"{report.split} split, {report.images} images"
    if rest is not None:
        click.echo(f"{'average':<{width}}{_before_and_after(rest)}   (without tasks to be forgotten; {measured})")
    else:
        click.echo(f"no average, as all tasks are to be forgotten ({measured})")


def _before_and_after(values: "BeforeAfter") -> str:
    return "".join(f"{100 * value:8.1f} %" for value in (values.before, values.after))


def print_converted(row: "Converted") -> None:
    """What a file held, what was written and what was left out."""
    if row.output is None:
        lines = [f"ERROR  {row.file}  {row.detail}"]
    else:
        lines = [f"{row.kind:<5}  {row.file} → {row.output}", f"       {row.held}: {row.detail}"]
    if row.classes:
        shown = shortened(row.classes, 3)
        lines.append(f"       named in it, not imported: {shown}")
    for line in lines:  # names from a file must not move a terminal's cursor
        click.echo("".join(letter if letter.isprintable() else "?" for letter in line))


def print_downloaded(found: "DownloadReport") -> None:
    """What was downloaded, and what has to be got in other ways."""
    for row in found.files:
        click.echo(f"{row.file}  {row.bytes / 2**20:.1f} MiB, digest {row.digest[:12]}")
    if found.files or not found.missing:
        total = f", {found.bytes / 2**20:.1f} MiB" if found.files else "; all that the suite names are here"
        click.echo(f"{counted(len(found.files), 'file')} downloaded{total}")
    for part in found.missing:
        click.echo(f"missing: {part.what}: put it where suite.yaml says, at {part.place} beside it")
