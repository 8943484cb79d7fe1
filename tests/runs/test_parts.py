"""Jobs in parts: what any of them measured is found by all others, and nothing is made or measured twice."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merging.methods.presets import PRESETS
from merging.runs.foreground import Here, have_done
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.generalisation import GeneralisationJob
from merging.runs.jobs.parts import InParts
from merging.runs.jobs.robustness import RobustnessJob
from merging.runs.jobs.subsets import SubsetsJob
from merging.runs.leaderboard import spec_of
from merging.runs.parts import known, outlook, results
from merging.runs.shipped import shipped_files
from merging.runs.workspace import Workspace
from merging.suites import load_suite
from merging.suites.images.shifts import Shift
from tests.random_models import TASKS

NOISE, PALE, DULL = (Shift.read(text) for text in ("gaussian_noise:4", "contrast:5", "contrast:1"))
ADAPTING = {"merge": "adamerging", "merge_params": {"steps": 3, "batch_size": 4, "learning_rate": 0.1}}
FIRST, SECOND, THIRD = ("roads",), ("digits", "leaves"), ("circles",)


def spec(suite_file: Path, **choices: Any) -> MergeSpec:
    return MergeSpec.build(**{"suite": str(suite_file), "tasks": TASKS, "device": "cpu", **choices})


def asked(job: InParts, workspace: Workspace) -> tuple[Any, list[str]]:
    """Its result, and what was said while it came about."""
    said: list[str] = []
    (found,) = results({"it": job}, type(job).result, workspace, lambda done, total, message: said.append(message))
    return found, said


KINDS = pytest.mark.parametrize(
    ("kind", "field", "parts"),
    [
        (RobustnessJob, "shifts", (NOISE, PALE, DULL)),
        (GeneralisationJob, "left_out", (FIRST, SECOND, THIRD)),
        (SubsetsJob, "subsets", (SECOND, ("circles", "roads"), TASKS)),
    ],
)


@KINDS
def test_a_request_that_overlaps_others_has_the_rest_done_alone(
    kind: type[InParts], field: str, parts: Sequence[Any], suite_file: Path, workspace: Workspace, tmp_path: Path
) -> None:
    plain, fresh = spec(suite_file), Workspace(tmp_path / "fresh")
    asked(kind.like(plain, **{field: [parts[2], parts[0]]}), workspace)
    every = kind.like(plain, **{field: parts})
    assert known(every, workspace).left == kind.like(plain, **{field: [parts[1]]})
    found, _ = asked(every, workspace)
    alone, _ = asked(every, fresh)
    bill = {"seconds", "peak_bytes"}
    assert found.model_dump(exclude=bill) == alone.model_dump(exclude=bill)
    with sqlite3.connect(workspace.home / "runs.sqlite") as table:
        table.execute("delete from accuracies")  # as where a cluster measured
    for some in (parts[1:], parts[:1], parts[::-1]):
        less, said = asked(kind.like(plain, **{field: some}), workspace)
        again, _ = asked(kind.like(plain, **{field: some}), fresh)
        assert not said and less.model_dump(exclude=bill) == again.model_dump(exclude=bill)


def test_what_was_measured_on_other_files_or_with_other_settings_is_not_taken(
    own_suite: Path, workspace: Workspace
) -> None:
    job = RobustnessJob.like(spec(own_suite / "suite.yaml"), shifts=[PALE])
    asked(job, workspace)
    assert known(job, workspace).left is None
    for choices in ({"merge_params": {"scaling": 0.7}}, {"seed": 1}):
        other = RobustnessJob.like(job, shifts=job.shifts, **choices)
        assert known(other, workspace).left == other
    arrays = dict(np.load(own_suite / "roads.npz"))
    np.savez(own_suite / "roads.npz", **{**arrays, "test_images": 255 - arrays["test_images"]})
    assert known(job, workspace).left == job


def test_who_is_asked_already_is_not_asked_again(suite_file: Path, workspace: Workspace) -> None:
    plain = spec(suite_file)
    workspace.submit(RobustnessJob.like(plain, shifts=[PALE, DULL]))
    found = known(RobustnessJob.like(plain, shifts=[NOISE, PALE]), workspace)
    assert found.missing == RobustnessJob.like(plain, shifts=[NOISE]) and set(found.active) == {PALE}
    assert found.left == found.job and found.result(RobustnessJob.result) is None


def test_finished_merges_and_other_questions_count(suite_file: Path, workspace: Workspace) -> None:
    run = have_done(spec(suite_file), workspace, Here(workspace))
    found, said = asked(RobustnessJob.like(spec(suite_file), shifts=[PALE]), workspace)
    assert found.clean == run.merged.accuracy and not [one for one in said if one.endswith(", clean") and "on" in one]
    ways = [("roads",), ("digits", "leaves")]
    left_out, _ = asked(GeneralisationJob.like(spec(suite_file), left_out=ways), workspace)
    subsets = [tuple(task for task in TASKS if task not in way) for way in ways]
    found, said = asked(SubsetsJob.like(spec(suite_file), subsets=subsets), workspace)
    for subset, split in zip(found.subsets, left_out.splits, strict=True):
        assert subset.accuracy == {task: split.accuracy[task] for task in split.seen}
    assert not [one for one in said if "merging" in one]


def test_what_was_learned_once_is_not_learned_again_for_further_shifts(suite_file: Path, workspace: Workspace) -> None:
    asked(RobustnessJob.like(spec(suite_file, **ADAPTING), shifts=[PALE]), workspace)
    found, said = asked(RobustnessJob.like(spec(suite_file, **ADAPTING), shifts=[NOISE]), workspace)
    assert {one for one in said if "adapting" in one} and all(NOISE.label in one for one in said if "adapting" in one)
    alone, _ = asked(RobustnessJob.like(spec(suite_file, **ADAPTING), shifts=[NOISE]), Workspace(workspace.home / "x"))
    assert (found.accuracy, found.adapted) == (alone.accuracy, alone.adapted)


@pytest.mark.usefixtures("few_scalings")
@pytest.mark.parametrize(
    "choices",
    [
        {"merge": "tsv_m", "merge_params": {"scaling": "auto"}},
        {"edit": "consensus", "edit_params": {"threshold": "auto"}, "merge_params": {"scaling": "auto"}},
    ],
    ids=["alone", "with a threshold"],
)
def test_a_scaling_that_was_chosen_once_is_not_chosen_again(
    choices: dict[str, Any], suite_file: Path, workspace: Workspace
) -> None:
    first, later = (RobustnessJob.like(spec(suite_file, **choices), shifts=[shift]) for shift in (PALE, NOISE))
    _, said = asked(first, workspace)
    assert [one for one in said if "choosing" in one]
    found, said = asked(later, workspace)
    assert bool([one for one in said if "choosing" in one]) == (choices.get("edit") == "consensus")
    alone, _ = asked(later, Workspace(workspace.home / "x"))
    assert (found.accuracy, found.clean) == (alone.accuracy, alone.clean)


def test_how_long_the_rest_takes_is_told_by_a_merge_of_other_tasks_too(suite_file: Path, workspace: Workspace) -> None:
    preset = PRESETS["average"]
    have_done(spec_of(preset, str(suite_file), TASKS[:2], "cpu"), workspace, Here(workspace))
    few, many = (
        RobustnessJob.like(spec_of(preset, str(suite_file), TASKS, "cpu"), shifts=shifts)
        for shifts in ([PALE], [NOISE, PALE, DULL])
    )
    times = [outlook([preset], [job], workspace) for job in (few, many)]
    assert 0 < times[0].seconds < times[1].seconds and not times[0].unknown
    assert times[0].in_words == "about 1 min by the times of earlier runs"


@KINDS
def test_how_long_the_rest_takes_is_told_by_other_parts_of_it_and_by_other_questions(
    kind: type[InParts], field: str, parts: Sequence[Any], suite_file: Path, workspace: Workspace
) -> None:
    preset = PRESETS["average"]
    plain = spec_of(preset, str(suite_file), TASKS, "cpu")
    every = RobustnessJob.like(plain, shifts=[NOISE, PALE, DULL])
    assert "none of these methods was run on this suite before" in outlook([preset], [every], workspace).in_words
    asked(kind.like(plain, **{field: parts[:1]}), workspace)
    few, many = (RobustnessJob.like(plain, shifts=shifts) for shifts in ([PALE], every.shifts))
    times = [outlook([preset], [job], workspace) for job in (few, many)]
    assert 0 < times[0].seconds < times[1].seconds and not times[0].unknown
    new = PRESETS["tsv_m"]
    other = RobustnessJob.like(spec_of(new, str(suite_file), TASKS, "cpu"), shifts=[PALE])
    some = outlook([preset, new], [few, other], workspace)
    assert some.unknown == ["TSV-M"] and some.in_words.endswith(", without TSV-M, never run on this suite")


def test_times_of_results_that_came_with_the_suite_are_said_to_be_theirs(tmp_path: Path) -> None:
    preset = PRESETS["task_arithmetic"]
    job = RobustnessJob.like(spec_of(preset, "mini", load_suite("mini").task_names, "cpu"), shifts=[PALE])
    shipped = Workspace(tmp_path, shipped=shipped_files())
    said = outlook([preset], [job], shipped).in_words
    assert said.endswith("by the times of the results that came with the suite, depending on the machine")
