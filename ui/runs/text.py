"""What runs are called and how their numbers are described, the same on every page."""

import time
from collections.abc import Sequence

from merging.charts.run_series import scaling_of, told_apart
from merging.core.text import in_a_row, printed
from merging.runs import Run, State
from merging.runs.comparison.settings import base_weights
from merging.runs.naming import machine_of
from ui.look.figure import escape_markdown

_BADGES: dict[State, tuple[str, str]] = {
    "queued": ("gray", "schedule"),
    "running": ("blue", "progress_activity"),
    "done": ("green", "check"),
    "failed": ("red", "error"),
    "cancelled": ("gray", "block"),
    "lost": ("orange", "link_off"),
}
STATE_COLORS: dict[str, str] = {state: color for state, (color, _) in _BADGES.items()}
BUILT_IN = "with suite"  # of results that came with it, in place of a state or a time
# Follows "the machine that measured", of times of results that came with a suite.
TIMES_ELSEWHERE = ", which did other things besides: no more than a hint"
_WORDS: dict[State, str] = {
    "queued": "It waits for the worker.",
    "running": "It is running.",
    "done": "It is done.",
    "failed": "It failed.",
    "cancelled": "It was cancelled before it ended.",
    "lost": "Its worker stopped without a word. Run it again.",
}


def badge(state: State) -> str:
    """A state as a coloured badge in markdown."""
    color, icon = _BADGES[state]
    return f":{color}-badge[:material/{icon}: {state}]"


def state_in_words(state: State) -> str:
    """A state as a sentence."""
    return _WORDS[state]


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(4.21), duration(75), duration(7300)
    ('4.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def about(seconds: float) -> str:
    """A guess at a time, no finer than it is worth.

    >>> about(3), about(44), about(80), about(412), about(5000)
    ('a few seconds', 'about 40 s', 'about 1 min', 'about 7 min', 'about 1.4 h')
    """
    if seconds < 8:
        return "a few seconds"
    if seconds < 55:
        return f"about {10 * max(1, round(seconds / 10))} s"
    return f"about {max(1, round(seconds / 60))} min" if seconds < 3600 else f"about {seconds / 3600:.1f} h"


def when(stamp: float) -> str:
    """A time of day, with the date unless it is today."""
    moment, today = time.localtime(stamp), time.localtime()
    same_day = moment[:3] == today[:3]
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M", moment)


def day_of(runs: Sequence[Run]) -> str:
    """When runs were measured, as a date.

    >>> from types import SimpleNamespace
    >>> day_of([SimpleNamespace(finished=86400 * 20000.5)])
    '4 October 2024'
    """
    moment = time.gmtime(max(run.finished or 0.0 for run in runs))
    return f"{moment.tm_mday} {time.strftime('%B %Y', moment)}"


def measured_before(runs: Sequence[Run]) -> str:
    """Which of some runs were measured when their suite was built, and on which day; empty if none was."""
    before = [run for run in runs if run.shipped]
    if not before:
        return ""
    which = "Measured" if len(before) == len(runs) else f"{len(before)} of {len(runs)} results were measured"
    return f"{which} when the suite was built, on {day_of(before)}, on a CPU."


# Runs of earlier versions told only three phases apart.
_FORMER_PHASES = {"plan": "before merging", "merge": "merging", "evaluate": "evaluating"}


def phases(run: Run) -> dict[str, float]:
    """Seconds of a finished run by phase, in the order in which they began, without the total."""
    seconds = run.merged.seconds if run.merged else {}
    return {_FORMER_PHASES.get(phase, phase): value for phase, value in seconds.items() if phase != "total"}


def chosen_on_validation(run: Run) -> bool:
    """Whether a run chose its λ on validation images."""
    return run.merged is not None and run.merged.merge.scaling_search is not None


def option_labels(runs: Sequence[Run], tasks: Sequence[str]) -> dict[str, str]:
    """Run id → its text in a list to choose from, no two alike; how many tasks it merges is said if not these."""
    several = len({machine_of(run) for run in runs} - {""}) > 1
    return told_apart({run.id: _option_label(run, tasks, machine_of(run) if several else "") for run in runs})


def _option_label(run: Run, tasks: Sequence[str], machine: str) -> str:
    chosen = run.merged.merge.scaling if run.merged and chosen_on_validation(run) else None
    scaling = scaling_of(run) if chosen is None else f"λ {printed(chosen)}"
    parts = [run.name, run.label, scaling]
    if set(run.spec.tasks) != set(tasks):
        parts.append(f"{len(run.spec.tasks)} {'tasks' if len(run.spec.tasks) > 1 else 'task'}")
    average = run.merged.score if run.merged else None
    if average is not None:
        parts.append(f"{100 * average:.1f} %")
    return " · ".join(part for part in [*parts, machine, BUILT_IN if run.shipped else when(run.created)] if part)


def provenance(runs: Sequence[Run]) -> str:
    """Split, number of images and seed of finished runs, as a sentence for a caption, in markdown."""
    measured = [(run, run.merged) for run in runs if run.merged and run.merged.accuracy]
    if not measured:
        return ""
    splits = _listed({result.split for _, result in measured})
    images = _listed({f"{result.images:,}" for _, result in measured})
    seeds = _listed({str(run.spec.seed) for run, _ in measured})
    text = f"Top-1 accuracy on the {splits} split, {images} images, seed {seeds}."
    said = dict.fromkeys(filter(None, (result.about_images for _, result in measured)))
    text += "".join(f" {sentence}" for sentence in said)
    text += "".join(
        f" {sentence}" for sentence in dict.fromkeys(result.shift_in_words for _, result in measured) if sentence
    )
    adapted = sorted({run.label for run, _ in measured if _saw_test(run)})
    if adapted:
        text += (
            f" {in_a_row(adapted)} adapted on unlabeled test images, the same that accuracy is measured on "
            "(the published protocol)."
        )
    return escape_markdown(f"{text} {measured_before(runs)}".strip())


def _saw_test(run: Run) -> bool:
    """Whether a run adapted on the very images that it was evaluated on."""
    adapted = run.merged.merge.adapted_on if run.merged else None
    return adapted is not None and adapted.split == run.spec.split


def _listed(values: set[str]) -> str:
    return " or ".join(sorted(values))


def mixtures(runs: Sequence[Run]) -> list[str]:
    """Reasons why the accuracies of these runs can't be compared without a word, as sentences."""
    reasons = []
    if len({run.spec.split for run in runs}) > 1:
        reasons.append("The runs were evaluated on different splits (validation and test).")
    elif len({run.spec.images for run in runs}) > 1:
        reasons.append("The runs were evaluated on images that were corrupted in different ways.")
    if len({frozenset(run.spec.tasks) for run in runs}) > 1:
        reasons.append(
            "The runs merge different sets of tasks. Only tasks on which all were measured are shown, and fewer tasks "
            "are easier to merge."
        )
    if len({base_weights(run) for run in runs}) > 1:
        reasons.append("The runs start from different weights: another suite, or files that have changed since.")
    return reasons
