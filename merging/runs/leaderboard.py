"""The leaderboard of a suite: every published method, its λ chosen on validation, measured on test, and their order."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from merging.core.errors import MissingPart
from merging.core.progress import Progress
from merging.core.text import short
from merging.evaluation import clip
from merging.evaluation.accuracy import about_images, best_first, normalised_accuracy
from merging.methods.pair import Pair
from merging.methods.params import AUTO, NEEDS, DataUse
from merging.methods.presets import PRESETS, Preset
from merging.runs.carrying import Carrier
from merging.runs.export.weights import require_done
from merging.runs.foreground import run_here
from merging.runs.jobs.merge import MergeSpec
from merging.runs.run import Run
from merging.runs.workspace import Workspace
from merging.suites.suite import Suite
from merging.weights.files.writing import PLAIN


@dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        method: its title.
        data: what it looks at, by itself and to choose λ or thresholds.
        accuracy: task → test accuracy, 0 … 1.
        normalised: see :func:`merging.evaluation.accuracy.normalised_accuracy`; None without the tasks' own models.
        scaling: λ chosen on validation, or None if there is none to choose.
        seconds: from files to accuracy, the search for λ included.
        peak_bytes: peak memory, see :class:`merging.core.memory.PeakMemory`.
        run: the run's id; None for the two baselines.
        skipped: split → task → number of images that can't be read and were left out.
        data_warnings: what is odd or assumed about images and heads, in sentences without their ends.
        localised: whether it gives a model for each task, and so can't be ranked among those that give one for all.
        own: whether it is this project's own method.
    """

    method: str
    data: DataUse
    accuracy: dict[str, float]
    normalised: float | None
    scaling: float | None = None
    seconds: float | None = None
    peak_bytes: int | None = None
    run: str | None = None
    skipped: dict[str, dict[str, int]] = field(default_factory=dict)
    data_warnings: list[str] = field(default_factory=list)
    localised: bool = False
    own: bool = False

    @property
    def average(self) -> float:
        """Mean over tasks, each counting the same."""
        return sum(self.accuracy.values()) / len(self.accuracy)

    def as_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            **{name: value for name, value in vars(self).items() if name != "data"},
            "needs": self.data.needs,
            "chosen": list(self.data.chosen),
            "average": self.average,
        }


class Ranked(Protocol):
    """What has an average accuracy, or has none yet."""

    @property
    def average(self) -> float | None:
        """0 … 1; None if it was not measured."""


Line = TypeVar("Line", bound=Ranked)


OUR_OWN = " (this project's own)"  # behind the name of such a method
ONE_A_TASK = "Not one model but one for each task, and so not ranked among the others:"


def ranked(lines: Sequence[Line]) -> list[Line]:
    """The leaderboard's order: best average first; those without a result stay behind them, in the order given."""
    averages = [line.average for line in lines]
    return [lines[place] for place in best_first([-1.0 if average is None else average for average in averages])]


def spec_of(preset: Preset, suite: str, tasks: Sequence[str], device: str, seed: int = 0) -> MergeSpec:
    """What the leaderboard runs for a preset: its parameters, but λ always chosen on validation where there is one."""
    return MergeSpec.build(suite=suite, tasks=tuple(tasks), device=device, seed=seed, **_pair(preset).fields)


def _pair(preset: Preset) -> Pair:
    return preset.pair if preset.pair.scaling is None else preset.pair.with_scaling(AUTO)


def data_looked_at(preset: Preset) -> DataUse:
    """What the leaderboard's run of a preset looks at, besides the images that accuracy is measured on."""
    return _pair(preset).data


def two_settings() -> str:
    """The methods for which the leaderboard's λ is not that of their preset, in words for tables and pages."""
    given: dict[str, list[str]] = {}
    for preset in PRESETS.values():
        if preset.pair.scaling not in (None, AUTO):
            given.setdefault(short(preset.pair.scaling), []).append(preset.title)
    papers = "; ".join(f"λ = {value} for {' · '.join(titles)}" for value, titles in given.items())
    return (
        "The leaderboard chooses λ on validation images for every method that has one, but for Fisher merging, where "
        "it is 1 as published. `merge --preset` takes it from "
        f"the paper or page where that gives one: {papers}. So each of these has two settings, and two accuracies."
    )


def cheapest_first(presets: Iterable[Preset]) -> list[Preset]:
    """Presets in the order to run them: by the data needed, then closed forms before what optimises in many steps.

    Among equals those with fewer parameters to choose come first, as a search evaluates the merged model once a value.
    """

    def key(preset: Preset) -> tuple[int, bool, int]:
        data = data_looked_at(preset)
        return NEEDS.index(data.needs), preset.iterative, len(data.chosen)

    return sorted(presets, key=key)


def not_run_yet(
    presets: Iterable[Preset], reference: str, workspace: Workspace, tasks: Sequence[str], device: str
) -> list[Preset]:
    """Those of some presets for which the leaderboard has to run something; arguments as there."""

    def done(preset: Preset) -> bool:
        known = workspace.find(spec_of(preset, reference, tasks, device))
        return known is not None and known.state == "done"

    return [preset for preset in presets if not done(preset)]


def leaderboard(
    suite: Suite,
    reference: str,
    workspace: Workspace,
    presets: Sequence[Preset],
    tasks: Sequence[str],
    device: str,
    on_progress: Progress,
    carrier: Carrier | None = None,
) -> Iterator[Row]:
    """Rows as they are done: zero-shot, one model per task, then the presets. What was run before is not run again.

    Args:
        suite: whose models are merged.
        reference: its name or path, as it stands in specifications.
        workspace: where runs are kept.
        presets: which methods.
        tasks: which tasks.
        device: where to compute, resolved.
        on_progress: told of every run's progress.
        carrier: who carries the presets' runs out, all at once if it can, in place of this process.

    Raises:
        MissingPart: a task has no images or head.
        MergingError: whatever a run raises.
    """
    lacking = [task for task in tasks if not suite.measurable(task)]
    if lacking:
        raise MissingPart(f"a leaderboard needs images and a head for every task; {', '.join(lacking)} lack them")
    evaluator = workspace.evaluator(suite)
    zero_shot = workspace.base_accuracy(evaluator, tasks).per_task
    individual = workspace.individual_accuracy(evaluator, tasks).per_task
    yield from baseline_rows(zero_shot, individual)
    specs = [spec_of(preset, reference, tasks, device) for preset in presets]
    if carrier is None:
        clip.load_open_clip()  # else the first row alone would pay for it, in seconds and in memory
    else:
        for spec in specs:
            carrier.submit(spec, spec.fingerprint(workspace))
    for number, (preset, spec) in enumerate(zip(presets, specs, strict=True)):
        head = f"{preset.title} ({number + 1} of {len(presets)})"

        def report(done: int, total: int, message: str, head: str = head) -> None:
            on_progress(done, total, f"{head}: {message}")

        run = run_here(spec, workspace, None, report, PLAIN, carrier)
        yield row_of(preset, run, individual)


def baseline_rows(zero_shot: dict[str, float], individual: dict[str, float]) -> tuple[Row, Row]:
    """The rows of the base model and of one model per task, from their accuracies."""
    return (
        Row("Zero-shot", DataUse("none"), zero_shot, normalised_accuracy(zero_shot, individual)),
        Row("Individual", DataUse("labelled"), individual, 1.0),
    )


def row_of(preset: Preset, run: Run, individual: Mapping[str, float]) -> Row:
    """The row of a finished run; ``individual`` may be empty if those accuracies are not known."""
    result = require_done(run)
    accuracy = result.accuracy or {}
    return Row(
        method=preset.title,
        data=data_looked_at(preset),
        accuracy=accuracy,
        normalised=normalised_accuracy(accuracy, individual),
        scaling=result.merge.scaling,
        seconds=result.seconds.get("total"),
        peak_bytes=result.peak_bytes,
        run=run.id,
        skipped=result.skipped,
        data_warnings=result.data_warnings,
        localised=preset.pair.localised,
        own=preset.ours,
    )


def to_markdown(rows: Sequence[Row]) -> str:
    """The table, best average first; methods that give a model for each task have one of their own."""
    parts = [[row for row in rows if row.localised == localised] for localised in (False, True)]
    lines = _table(parts[0]) if parts[0] else []
    lines += ["", ONE_A_TASK, "", *_table(parts[1])] if parts[1] else []
    said = dict.fromkeys(filter(None, (about_images(row.skipped, row.data_warnings) for row in rows)))
    return "\n".join([*lines, *(line for sentence in said for line in ("", sentence))]) + "\n"


def _table(rows: Sequence[Row]) -> list[str]:
    tasks = list(rows[0].accuracy)
    lines = [
        f"| method | data needed | chosen | {' | '.join(tasks)} | **average** | normalised | λ | seconds "
        "| memory (MB) |",
        "|---|---|---|" + "---:|" * (len(tasks) + 5),
    ]
    for row in ranked(rows):
        cells = [row.method + OUR_OWN * row.own, row.data.needs, row.data.chosen_words]
        cells += [f"{100 * row.accuracy[task]:.1f}" for task in tasks]
        cells += [
            f"**{100 * row.average:.1f}**",
            "" if row.normalised is None else f"{100 * row.normalised:.1f}",
            "" if row.scaling is None else f"{row.scaling:g}",
            "" if row.seconds is None else f"{row.seconds:.1f}",
            "" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
