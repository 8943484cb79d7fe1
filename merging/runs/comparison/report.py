"""Runs side by side as one HTML file for a paper or a lecture: no script, nothing from elsewhere."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from merging.core.files import atomic_path
from merging.core.text import in_a_row
from merging.evaluation.evaluator import Evaluator
from merging.evaluation.paired import HOW, LEVEL, VERDICTS, Comparison, TaskDifference, comparison_in_words, points
from merging.methods.forgetting import TO_FORGET
from merging.runs.comparison.compare import RunComparison, shown_classes, subtracted
from merging.runs.comparison.page import html_page, html_table, protocol_section, settings_that_differ
from merging.runs.comparison.svg import Whisker, escaped, heat_map, whiskers
from merging.runs.jobs.predictions import evaluator_of
from merging.runs.workspace import Workspace
from merging.suites.images.thumbnails import picture
from merging.weights.geometry import network_order

MAX_IMAGES = 8  # of a task that one run gets right and the other wrong, each way
_NUMBERED = 12  # classes up to which cells carry their number
_SIDE = 64  # pixels of an image


def comparison_report(
    found: RunComparison, names: Sequence[str], labels: Mapping[str, str], images: Evaluator, title: str
) -> str:
    """The page.

    Args:
        found: the runs, the reference first.
        names: what to call them, no two the same.
        labels: task → what to call it.
        images: where the images of the tasks are.
        title: of the page.
    """
    return html_page(title, comparison_sections(found, names, labels, images))


def comparison_sections(
    found: RunComparison, names: Sequence[str], labels: Mapping[str, str], images: Evaluator
) -> str:
    """What stands on the page below its title, as HTML."""
    tasks = "".join(_task(found, names, task, labels[task], images) for task in found.tasks)
    return (
        _overview(found, names)
        + _differences(found, names, labels)
        + _coefficients(found, names, labels)
        + f"<h2>Image by image</h2>{tasks}"
        + settings_that_differ(found.runs, names)
        + _methods(found)
        + protocol_section(found.runs, names)
    )


def write_report(path: Path, found: RunComparison, workspace: Workspace) -> None:
    """Write the page to a file, with the runs' methods and the suite's titles as names.

    Raises:
        CheckpointError: the file can't be written; nothing was changed.
    """
    images = evaluator_of(found.runs[0], workspace)
    labels = images.suite.task_labels(found.tasks)
    page = comparison_report(found, found.names, labels, images, report_title(images.suite.label, found.names))
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def report_title(suite: str, names: Sequence[str]) -> str:
    """What to call a comparison.

    >>> report_title("Mini", ["Task Arithmetic", "TIES", "DARE"])
    'Mini: TIES and DARE against Task Arithmetic'
    """
    return f"{suite}: {in_a_row(names[1:])} against {names[0]}"


def _overview(found: RunComparison, names: Sequence[str]) -> str:
    rows = []
    for index, (run, name) in enumerate(zip(found.runs, names, strict=True)):
        role = "reference" if index == 0 else ""
        average = found.average(index)
        rows.append([name, role, "–" if math.isnan(average) else f"{100 * average:.1f}", run.id, run.fingerprint[:12]])
    head = ["Run", "Role", "Average accuracy (%)", "Id", "Fingerprint"]
    note = " Averages are without tasks to be forgotten." if found.forgotten else ""
    said = dict.fromkeys(run.merged.about_images for run in found.runs if run.merged)
    note += "".join(f" {escaped(sentence)}" for sentence in said if sentence)
    return (
        f"<p>Top-1 accuracy on the {found.split} split, {found.images:,} images of {len(found.tasks)} "
        f"task{'s' if len(found.tasks) > 1 else ''}.{note}</p>" + html_table(head, rows, numeric={2})
    )


def _differences(found: RunComparison, names: Sequence[str], labels: Mapping[str, str]) -> str:
    labels = {task: f"{labels[task]}{TO_FORGET if task in found.forgotten else ''}" for task in found.tasks}
    drawn = [("Average", [_whisker(pair) for pair in found.pairs])] if found.pairs[0].counted else []
    drawn += [(labels[task], [_whisker(pair.tasks[task]) for pair in found.pairs]) for task in found.tasks]
    chart = whiskers(
        drawn,
        names[1:],
        f"Points more than {names[0]}, with {100 * LEVEL:.0f} % intervals",
        "Difference of accuracy per task; the numbers are in the tables below",
    )
    parts = [f"<h2>Task by task</h2><div class='wide'>{chart}</div>"]
    tested = ["Difference", f"{100 * LEVEL:.0f} % interval", "Gained", "Lost", "Images", "p", "p, corrected"]
    for name, pair in zip(names[1:], found.pairs, strict=True):
        rows = [
            [
                *_numbers(labels[task], VERDICTS[one.verdict], one),
                str(one.better),
                str(one.worse),
                str(one.images),
                f"{one.p:.2g}",
                f"{one.adjusted:.2g}",
            ]
            for task, one in pair.tasks.items()
        ]
        if pair.counted:
            images = sum(one.images for one in pair.counted.values())
            rows.append([*_numbers("Average", "", pair), "", "", str(images), "", ""])
        head = ["Task", "Verdict", f"{names[0]} (%)", f"{name} (%)", *tested]
        table = html_table(head, rows, numeric=set(range(2, len(head))))
        said = escaped(comparison_in_words(pair, name, names[0]))
        parts.append(f"<p><strong>{said}</strong></p><div class='wide'>{table}</div>")
    return "".join(parts)


def _numbers(label: str, verdict: str, one: Comparison | TaskDifference) -> list[str]:
    return [
        label,
        verdict,
        f"{100 * one.reference:.1f}",
        f"{100 * one.accuracy:.1f}",
        points(one.difference),
        f"{points(one.low)} to {points(one.high)}",
    ]


def _whisker(one: Comparison | TaskDifference) -> Whisker:
    return Whisker(100 * one.difference, 100 * one.low, 100 * one.high)


def _coefficients(found: RunComparison, names: Sequence[str], labels: Mapping[str, str]) -> str:
    parts = []
    for run, name in zip(found.runs[1:], names[1:], strict=True):
        change = subtracted(found.runs[0].coefficients, run.coefficients)
        if change is None:
            continue
        matrix = np.array(change.table)[:, network_order(change.tensors)]
        limit = float(np.abs(matrix).max()) or 1.0
        rows = [labels.get(task, task) for task in change.tasks]
        title = f"{name} minus {names[0]}, from −{limit:.2g} (blue) to {limit:.2g} (orange)"
        parts.append(f"<div class='wide'>{heat_map(matrix, rows, [], limit, title)}</div>")
    if not parts:
        return ""
    return (
        "<h2>Coefficients</h2><p>Both runs are tables: merged weights = base + Σ c · task vector, tensor by tensor. "
        "Columns are the tensors, from the input to the output.</p>" + "".join(parts)
    )


def _task(found: RunComparison, names: Sequence[str], task: str, label: str, images: Evaluator) -> str:
    parts = [f"<h3>{escaped(label)}</h3>"]
    classes, labels = found.classes[task], found.labels[task]
    pixels = images.image_set(task, found.split).pixels
    for other in range(1, len(found.runs)):
        first, second = found.shares(0, task), found.shares(other, task)
        kept = shown_classes(first, second)
        shown, nameless = [classes[index] for index in kept], [""] * len(kept)
        few = len(kept) <= _NUMBERED
        maps = [
            heat_map(
                matrix[np.ix_(kept, kept)],
                shown if place == 0 else nameless,
                shown,
                100,
                title,
                cell=22 if few else 12,
                numbers=few,
            )
            for place, (title, matrix) in enumerate(
                ((names[0], first), (names[other], second), ("Difference", second - first))
            )
        ]
        note = "" if len(kept) == len(classes) else f" The {len(kept)} of {len(classes)} classes that differ most."
        parts.append(
            f"<p class='note'>True class (rows) and what it is taken for (columns), in percent of each row.{note}</p>"
            f"<div class='wide'>{''.join(maps)}</div>"
        )
        for winner, loser in ((other, 0), (0, other)):
            found_images = found.only_right(winner, loser, task)
            parts.append(
                f"<p>Only {escaped(names[winner])} is right (not {escaped(names[loser])}) about "
                f"{len(found_images)} of {len(labels)} images.</p>"
            )
            parts.append(
                _images(
                    found_images,
                    pixels,
                    lambda i: classes[labels[i]],
                    lambda i, run=loser: classes[found.predictions[run][task][i]],  # type: ignore[misc]
                )
            )
    return "".join(parts)


def _images(indices: np.ndarray, pixels: np.ndarray, true: Callable[[int], str], guess: Callable[[int], str]) -> str:
    shown = []
    for index in indices[:MAX_IMAGES]:
        said = f"{escaped(true(index))}, not {escaped(guess(index))}"
        image = f'<img src="{picture(np.asarray(pixels[index]), _SIDE)}" width="{_SIDE}" height="{_SIDE}" alt="{said}">'
        shown.append(f"<figure>{image}<figcaption>{said}</figcaption></figure>")
    return f"<div class='images'>{''.join(shown)}</div>" if shown else ""


def _methods(found: RunComparison) -> str:
    seen = sorted(
        {
            run.label
            for run in found.runs
            if run.merged and run.merged.merge.adapted_on and run.merged.merge.adapted_on.split == found.split
        }
    )
    adapted = (
        f" {escaped(in_a_row(seen))} adapted on unlabeled {found.split} images, the same that accuracy is measured "
        "on (the published protocol)."
        if seen
        else ""
    )
    return (
        "<h2>How this was computed</h2><p class='note'>Gained: images that only the run gets right; lost: that only "
        f"the reference does. {escaped(HOW)}{adapted}</p>"
    )
