"""Results beyond the benchmark that come with a suite: those of the study for its suite, measured ones for others."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from merging.methods.presets import PRESETS
from merging.runs import Run
from merging.runs.beyond import generalisation_job, robustness_job, shifts_of, ways_of_leaving_out
from merging.runs.jobs import Job
from merging.runs.jobs.baselines import BaselinesResult
from merging.runs.jobs.generalisation import GeneralisationResult
from merging.runs.jobs.model_job import ModelJob, ModelResult
from merging.runs.jobs.robustness import RobustnessResult
from merging.runs.leaderboard import spec_of
from merging.runs.shipped import run_of
from merging.runs.workspace import Workspace
from merging.suites import Suite
from studies.beyond import GENERALISE, ROBUSTNESS, stored
from studies.beyond import PRESETS as STUDIED
from ui.beyond.corrupted_view import DEFAULT_SEVERITY
from ui.beyond.unseen_view import DEFAULT_LEFT_OUT, DEFAULT_WAYS

_NAMES = [name for name in STUDIED if not PRESETS[name].pair.adapts_on_test]


def jobs_beyond(reference: str, suite: Suite) -> list[Job]:
    """What the page asks for as it is first opened of a suite that the study is not about, for the study's methods.

    Without those that adapt, which would learn anew for every way of leaving tasks out.
    """
    if suite.name == stored(ROBUSTNESS)["suite"]:
        return []
    tasks = suite.task_names
    ways = ways_of_leaving_out(tasks, DEFAULT_LEFT_OUT, DEFAULT_WAYS)
    shifts = shifts_of(severities=[int(DEFAULT_SEVERITY)])
    found: list[Job] = []
    for name in _NAMES:
        found.append(robustness_job(PRESETS[name], reference, tasks, shifts, "cpu"))
        found.append(generalisation_job(PRESETS[name], reference, tasks, ways, "cpu"))
    return found


def studied(reference: str, suite: Suite, workspace: Workspace, runs: Sequence[Run]) -> list[Run]:
    """Finished runs with the study's numbers, found by the fingerprints of the same jobs on a CPU.

    Without methods that adapt: theirs were measured on a GPU, which the fingerprint of a run on a CPU does not say.

    Args:
        reference: of the suite.
        suite: the same; of any but the study's there are none.
        workspace: where its files are looked at.
        runs: what else comes with the suite; without its baselines and leaderboard there are none, as nothing would
            show that the study is about the files as they are.

    Raises:
        ValueError: the study found other accuracies than those runs did, so that it is of other files or methods.
    """
    robust, unseen = stored(ROBUSTNESS), stored(GENERALISE)
    baselines = (run.result_as(BaselinesResult) for run in runs)
    base = next((one for one in baselines if one is not None and one.split == "test"), None)
    if suite.name != robust["suite"] or base is None:
        return []
    _require_equal("zero-shot", robust["zero_shot"]["clean"], base.zero_shot, ROBUSTNESS)
    _require_equal("zero-shot", unseen["zero_shot"], base.zero_shot, GENERALISE)
    boards = {run.fingerprint: run.merged for run in runs}
    found: list[Run] = []
    for name in _NAMES:
        spec = spec_of(PRESETS[name], reference, suite.task_names, "cpu")
        board = boards.get(spec.fingerprint(workspace))
        if board is not None:
            _require_equal(name, robust["clean"][name], board.accuracy, ROBUSTNESS)
            found += [
                _under_corruption(name, reference, suite, robust, base, workspace),
                _on_unseen(name, reference, suite, unseen, base, workspace),
            ]
    return found


def generalisation(name: str, study: dict[str, Any], counts: dict[str, int]) -> GeneralisationResult:
    """What the study found of a method on seen and unseen tasks.

    Args:
        name: of its preset.
        study: what is stored.
        counts: task → number of test images.
    """
    splits = [{**split, "accuracy": of} for split, of in zip(study["splits"], study["accuracy"][name], strict=True)]
    found = {"splits": splits, "zero_shot": study["zero_shot"], "counts": counts, "split": study["split"]}
    return GeneralisationResult.model_validate(found)


def _on_unseen(
    name: str, reference: str, suite: Suite, study: dict[str, Any], base: BaselinesResult, workspace: Workspace
) -> Run:
    left_out = [split["unseen"] for split in study["splits"]]
    job = generalisation_job(PRESETS[name], reference, suite.task_names, left_out, "cpu")
    return _run(job, generalisation(name, study, base.counts), study, workspace)


def _under_corruption(
    name: str, reference: str, suite: Suite, study: dict[str, Any], base: BaselinesResult, workspace: Workspace
) -> Run:
    shifts = shifts_of(study["corruptions"], study["severities"])
    job = robustness_job(PRESETS[name], reference, suite.task_names, shifts, "cpu")

    def by_shift(accuracy: dict[str, Any]) -> dict[str, Any]:
        return {shift.text: accuracy[shift.corruption][str(shift.severity)] for shift in shifts}

    zero_shot = study["zero_shot"]
    result = RobustnessResult(
        shifts=[shift.text for shift in shifts],
        clean=study["clean"][name],
        accuracy=by_shift(study["accuracy"][name]),
        zero_shot={"clean": zero_shot["clean"], **by_shift(zero_shot["accuracy"])},
        counts=base.counts,
        split=study["split"],
    )
    return _run(job, result, study, workspace)


def _run(job: ModelJob, result: ModelResult, study: dict[str, Any], workspace: Workspace) -> Run:
    """A finished run of which nobody knows how long it took."""
    day = datetime.fromisoformat(study["measured"]).replace(hour=12, tzinfo=UTC)
    said = result.model_copy(update={"label": job.label, "device": "cpu"})
    row = {
        "spec": job.model_dump(mode="json"),
        "finished": day.timestamp(),
        "seconds": None,
        "result": said.stored(),
    }
    return run_of(job.fingerprint(workspace), row)


def _require_equal(what: str, found: dict[str, float], now: dict[str, float] | None, file: Path) -> None:
    """Insist that a study is about the present files and methods."""
    if found != now:
        raise ValueError(
            f"{file.name}: {what} has other accuracies on clean test images than what comes with the suite; "
            "run python -m studies.beyond first"
        )
