"""Shifted images and unseen tasks: the same as if the files held such images, and as plain merges of fewer tasks."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from merging.core.errors import Cancelled, MissingPart, RunError, SpecError
from merging.evaluation import evaluator as evaluation
from merging.evaluation.evaluator import Evaluator
from merging.methods.presets import PRESETS
from merging.runs.beyond import (
    average,
    base_on,
    generalisation_job,
    generalisation_of,
    robustness_job,
    robustness_of,
    shifts_of,
    spread,
    ways_of_leaving_out,
    zero_shot_of,
)
from merging.runs.comparison.compare import require_comparable
from merging.runs.export.recipe import recipe_of
from merging.runs.foreground import Here, have_done
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.generalisation import GeneralisationJob
from merging.runs.jobs.robustness import RobustnessJob
from merging.runs.jobs.subsets import SubsetsJob
from merging.runs.leaderboard import spec_of as leaderboard_spec
from merging.runs.parts import known, outlook
from merging.runs.task_counts import baselines_by_count, by_count, subsets_of
from merging.runs.workspace import Workspace
from merging.suites import Suite
from merging.suites.images.corruptions import corrupt
from tests.carrying import execute
from tests.random_models import TASKS

NOISE, PALE = "gaussian_noise:4", "contrast:5"
ADAPTING = {"merge": "adamerging", "merge_params": {"steps": 3, "batch_size": 4, "learning_rate": 0.1}}


def spec_of(suite_file: Path, **choices: Any) -> MergeSpec:
    return MergeSpec.build(**{"suite": str(suite_file), "tasks": TASKS, "device": "cpu", **choices})


def corrupted_files(folder: Path, corruption: str, severity: int) -> Path:
    """The same suite with corrupted test images in its files."""
    for task in TASKS:
        arrays = dict(np.load(folder / f"{task}.npz"))
        arrays["test_images"] = corrupt(arrays["test_images"], corruption, severity)
        np.savez(folder / f"{task}.npz", **arrays)
    return folder / "suite.yaml"


@pytest.mark.parametrize(
    "choices",
    [{"merge_params": {"scaling": "auto"}}, ADAPTING, {"merge": "tall_masks", "merge_params": {"threshold": 0.4}}],
    ids=["auto", "adapting", "localised"],
)
def test_a_shift_is_as_if_the_files_held_such_test_images(
    choices: dict[str, Any], suite_file: Path, own_suite: Path, workspace: Workspace
) -> None:
    shifted = execute(spec_of(suite_file, shift=NOISE, **choices), workspace)
    in_files = execute(spec_of(corrupted_files(own_suite, "gaussian_noise", 4), **choices), workspace)
    assert (shifted.accuracy, shifted.coefficients) == (in_files.accuracy, in_files.coefficients)
    assert shifted.merge.scaling_search == in_files.merge.scaling_search  # validation images are clean in both
    clean = execute(spec_of(suite_file, **choices), workspace)
    assert (shifted.accuracy != clean.accuracy) and (shifted.shift, clean.shift) == (NOISE, "clean")
    assert (shifted.coefficients == clean.coefficients) == (choices is not ADAPTING)


def test_images_are_corrupted_once_and_validation_images_never(suite: Suite, workspace: Workspace) -> None:
    plain = workspace.evaluator(suite)
    noisy = plain.under(spec_of(suite.folder, shift=NOISE).shift)
    clean, found = plain.image_set("digits", "test"), noisy.image_set("digits", "test")
    assert np.array_equal(found.pixels, corrupt(clean.pixels, "gaussian_noise", 4))
    assert found.fingerprint != clean.fingerprint and np.array_equal(found.labels, clean.labels)
    assert noisy.image_set("digits", "val") is plain.image_set("digits", "val")
    assert noisy.tower is plain.tower
    (entry,) = (workspace.cache / "images").glob("*.npy")
    written = entry.stat().st_mtime_ns
    again = Evaluator(suite, cache=workspace.cache, shift=noisy.shift).image_set("digits", "test")
    assert np.array_equal(again.pixels, found.pixels) and isinstance(again.pixels, np.memmap)
    assert entry.stat().st_mtime_ns == written


def test_images_that_stay_on_a_device_are_those_of_the_shift_at_hand(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "keeps_images", lambda device: True)
    clean = Evaluator(suite)
    noisy, every = clean.under(spec_of(suite.folder, shift=NOISE).shift), slice(0, 24)
    before = clean.images("digits", "test", every)
    for one in (noisy, clean, noisy):
        mean, std = (torch.tensor(values) for values in (one.input.mean, one.input.std))
        pixels = torch.from_numpy(np.array(one.image_set("digits", "test").pixels))
        torch.testing.assert_close(
            one.images("digits", "test", every), ((pixels / 255 - mean) / std).permute(0, 3, 1, 2)
        )
    assert not torch.equal(before, noisy.images("digits", "test", every))


def test_nothing_of_an_unseen_task_is_merged_or_learned_from(
    suite: Suite, suite_file: Path, workspace: Workspace, evaluator: Evaluator
) -> None:
    seen, unseen = ("leaves", "circles"), ("roads", "digits")
    alone = execute(spec_of(suite_file, tasks=seen, **ADAPTING), workspace)
    result = execute(spec_of(suite_file, tasks=seen, unseen=unseen, **ADAPTING), workspace)
    assert (result.accuracy, result.coefficients, result.average) == (alone.accuracy, alone.coefficients, alone.average)
    base, table = suite.base_checkpoint, result.coefficients
    rows = {name: place for place, name in enumerate(table.tensors)}
    state = {
        name: base[name]
        + sum(c[rows[name]] * (suite.checkpoint(t)[name] - base[name]) for t, c in zip(seen, table.table, strict=True))
        for name in base
    }
    found, zero_shot = evaluator.accuracy(state, unseen).per_task, evaluator.accuracy(base, TASKS).per_task
    assert result.unseen.accuracy == found and result.unseen.zero_shot == zero_shot
    assert result.unseen.average == np.mean(list(found.values()))
    assert result.unseen.zero_shot_average == np.mean([zero_shot[task] for task in unseen])
    assert result.unseen.zero_shot_seen == np.mean([zero_shot[task] for task in seen])


def test_an_unseen_task_needs_no_model_but_images_and_a_head(own_suite: Path, workspace: Workspace) -> None:
    content = yaml.safe_load((own_suite / "suite.yaml").read_text())
    entry = next(each for each in content["tasks"] if each["name"] == "roads")
    del entry["checkpoint"]
    (own_suite / "roads.safetensors").unlink()
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(content))
    spec = spec_of(own_suite / "suite.yaml", tasks=("digits", "leaves"), unseen=("roads",))
    assert set(execute(spec, workspace).unseen.accuracy) == {"roads"}
    del entry["data"]
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(MissingPart, match="task 'roads' lacks images or a head"):
        execute(spec, workspace)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"shift": "fog:3"}, "no corruption 'fog'"),
        ({"shift": "contrast:6"}, "severity 6 is out of range: expected 1 to 5"),
        ({"shift": "contrast"}, "expected contrast:SEVERITY"),
        ({"shift": {"corruption": "contrast", "severity": 0}}, "severity 0 is out of range"),
        ({"shift": NOISE, "split": "val"}, "only test images are corrupted"),
        ({"unseen": ("digits",)}, "unseen tasks digits: they are merged as well"),
        ({"tasks": ("leaves",), "unseen": ("digits", "digits")}, "each must be named once"),
        ({"tasks": ("leaves",), "unseen": ("digits",), "evaluate": False}, "accuracy is not asked for"),
        ({"tasks": ("leaves",), "unseen": ("digits",), "merge": "tall_masks"}, "one model for all tasks"),
        (
            {"tasks": ("leaves",), "unseen": ("digits",), "merge_params": {"scaling": -0.5}},
            "measured there anyway",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_reason(choices: dict[str, Any], said: str, suite_file: Path) -> None:
    with pytest.raises(SpecError, match=said):
        spec_of(suite_file, **choices)


def test_runs_that_ask_for_neither_are_known_as_before(suite_file: Path) -> None:
    plain = spec_of(suite_file)
    assert not {"shift", "unseen"} & plain.model_dump().keys()
    asked = spec_of(suite_file, tasks=TASKS[:2], shift=NOISE, unseen=TASKS[2:])
    assert MergeSpec.model_validate_json(asked.model_dump_json()) == asked
    assert asked.label == f"{plain.label} · Gaussian noise, severity 4"


def test_runs_on_other_images_are_not_compared_and_recipes_hold_weights_only(
    suite: Suite, suite_file: Path, workspace: Workspace, tmp_path: Path
) -> None:
    here, output = Here(workspace), tmp_path / "weights.safetensors"
    runs = [have_done(spec_of(suite_file, shift=shift), workspace, here) for shift in ("clean", NOISE)]
    with pytest.raises(RunError, match="corrupted in different ways"):
        require_comparable(runs)
    asked = spec_of(suite_file, tasks=TASKS[:2], unseen=TASKS[2:])
    run = have_done(asked, workspace, Here(workspace, output=output))
    assert recipe_of(run, output).spec_for(suite).unseen == ()


def messages_of(job: Any, workspace: Workspace) -> tuple[Any, list[str]]:
    said: list[str] = []
    result = execute(job, workspace, on_progress=lambda done, total, message: said.append(f"{message} {done / total}"))
    assert all(float(one.rsplit(" ", 1)[1]) <= 1 for one in said)
    return result, said


@pytest.mark.parametrize(
    "choices", [{}, ADAPTING, {"merge": "tall_masks", "merge_params": {"threshold": 0.4}}], ids=["plain", "both", "own"]
)
def test_robustness_is_that_of_single_runs(
    choices: dict[str, Any], suite: Suite, suite_file: Path, workspace: Workspace
) -> None:
    job = RobustnessJob.like(spec_of(suite_file, **choices), shifts=[NOISE, PALE])
    result, said = messages_of(job, workspace)
    clean = execute(spec_of(suite_file, **choices), workspace)
    on_shift = {
        shift: execute(spec_of(suite_file, shift=shift, **choices), workspace).accuracy for shift in (NOISE, PALE)
    }
    assert result.clean == clean.accuracy and result.shifts == [NOISE, PALE] and any("merging" in one for one in said)
    if choices is ADAPTING:
        assert result.adapted == on_shift and result.accuracy != on_shift
    else:
        assert result.accuracy == on_shift and result.adapted is None
    for shift in (NOISE, PALE):
        shifted = workspace.evaluator(suite).under(spec_of(suite_file, shift=shift).shift)
        assert result.zero_shot[shift] == shifted.accuracy(suite.base_checkpoint, TASKS).per_task
    less, said = messages_of(RobustnessJob.like(job, shifts=[PALE]), workspace)
    assert less.accuracy == {PALE: result.accuracy[PALE]} and less.clean == result.clean
    assert not [one for one in said if "merging" in one]  # all of it was known


def test_what_was_measured_before_a_job_was_cancelled_is_not_measured_again(
    suite_file: Path, workspace: Workspace
) -> None:
    job = RobustnessJob.like(spec_of(suite_file), shifts=[NOISE, PALE])
    asked: list[str] = []

    def enough() -> bool:
        return sum("measuring" in one for one in asked) >= 7

    with pytest.raises(Cancelled):
        execute(job, workspace, on_progress=lambda done, total, message: asked.append(message), cancelled=enough)
    result, said = messages_of(job, workspace)
    fresh = sum("measuring on" in one for one in said)
    assert fresh == 3 * len(TASKS) - 6 - 1  # the seventh was measured before anybody asked again
    assert result.clean == execute(spec_of(suite_file), workspace).accuracy


def test_weights_of_a_finished_run_are_not_made_again(suite_file: Path, workspace: Workspace) -> None:
    have_done(spec_of(suite_file, **ADAPTING), workspace, Here(workspace))
    _, said = messages_of(RobustnessJob.like(spec_of(suite_file, **ADAPTING), shifts=[PALE]), workspace)
    adapting = [one for one in said if "adapting" in one]
    assert adapting and all("Contrast, severity 5" in one for one in adapting)


def test_generalisation_is_that_of_single_runs(suite_file: Path, workspace: Workspace) -> None:
    ways = [("digits", "roads"), ("leaves",)]
    job = GeneralisationJob.like(spec_of(suite_file, edit="awd"), left_out=ways)
    result, _ = messages_of(job, workspace)
    for unseen, found in zip(ways, result.splits, strict=True):
        seen = tuple(task for task in TASKS if task not in unseen)
        one = execute(spec_of(suite_file, edit="awd", tasks=seen, unseen=unseen), workspace)
        assert (tuple(found.seen), tuple(found.unseen)) == (seen, unseen)
        assert found.accuracy == {**one.accuracy, **one.unseen.accuracy}
    again, said = messages_of(GeneralisationJob.like(job, left_out=ways[1:]), workspace)
    assert again.splits == result.splits[1:] and not [one for one in said if "merging" in one]


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda spec: GeneralisationJob.like(spec, left_out=[TASKS]), "^unseen tasks .*none is left to be merged"),
        (lambda spec: GeneralisationJob.like(spec, left_out=[()]), "must name at least one"),
        (lambda spec: GeneralisationJob.like(spec, left_out=[("digits",)], shift=NOISE), "clean test images"),
        (lambda spec: RobustnessJob.like(spec, shifts=[NOISE], split="val"), "on test images"),
        (lambda spec: RobustnessJob.like(spec, shifts=[NOISE, NOISE]), "each shift must be named once"),
        (lambda spec: RobustnessJob.like(spec, shifts=["fog:1"]), "no corruption 'fog'"),
        (lambda spec: SubsetsJob.like(spec, subsets=[("cats",)]), "a subset has cats in it; expected some of"),
        (lambda spec: SubsetsJob.like(spec, subsets=[()]), "no task in it"),
        (lambda spec: SubsetsJob.like(spec, subsets=[TASKS, TASKS]), "subsets of tasks: each must be named once"),
        (lambda spec: SubsetsJob.like(spec, subsets=[TASKS], shift=NOISE), "clean test images of its own tasks"),
        (lambda spec: subsets_of(TASKS, [5]), "numbers of tasks: 5; expected numbers from 1 to 4"),
        (lambda spec: subsets_of(TASKS, []), "numbers of tasks: none"),
        (lambda spec: subsets_of(TASKS, [2], 0), "expected at least one"),
        (lambda spec: ways_of_leaving_out(TASKS, 4), "4 tasks can't be left out of 4: leave out 1 to 3"),
        (lambda spec: ways_of_leaving_out(TASKS[:2], 7), "7 tasks can't be left out of 2: leave out 1, so"),
        (lambda spec: ways_of_leaving_out(TASKS[:1], 1), "of 1 task none can be left out"),
        (lambda spec: ways_of_leaving_out(TASKS, 1, most=0), "expected at least one"),
        (lambda spec: shifts_of([], [1]), "at least one corruption"),
    ],
)
def test_senseless_measurements_are_refused(build: Any, said: str, suite_file: Path) -> None:
    with pytest.raises(SpecError, match=said):
        build(spec_of(suite_file))


def test_subsets_are_measured_as_single_runs_on_their_own_tasks(
    suite: Suite, suite_file: Path, workspace: Workspace, evaluator: Evaluator
) -> None:
    subsets = [("digits",), ("digits", "roads"), TASKS]
    job = SubsetsJob.like(spec_of(suite_file, edit="awd"), subsets=subsets)
    result, _ = messages_of(job, workspace)
    for subset, found in zip(subsets, result.subsets, strict=True):
        one = execute(spec_of(suite_file, edit="awd", tasks=subset), workspace)
        assert (tuple(found.tasks), found.accuracy) == (subset, one.accuracy)
    own = {task: evaluator.accuracy(suite.checkpoint(task), [task]).per_task[task] for task in TASKS}
    assert result.individual == own and result.zero_shot == evaluator.accuracy(suite.base_checkpoint, TASKS).per_task
    less, said = messages_of(SubsetsJob.like(job, subsets=subsets[1:]), workspace)
    assert less.subsets == result.subsets[1:] and not [one for one in said if "merging" in one]
    own = dict(zip(TASKS, (0.5, 0.25, 0.75, 1.0), strict=True))
    result = result.model_copy(update={"individual": own})
    row = by_count("awd", "AWD", result)
    assert row.averages == {
        len(one.tasks): [pytest.approx(np.mean([*one.accuracy.values()]))] for one in result.subsets
    }
    shares = [np.mean([one.accuracy[task] / own[task] for task in one.tasks]) for one in result.subsets]
    assert [*row.normalised.values()] == [[pytest.approx(share)] for share in shares]
    base, individual = baselines_by_count(result)
    assert base.averages[1] == [result.zero_shot["digits"]] and individual.normalised[4] == [pytest.approx(1)]


def test_subsets_are_all_of_a_size_or_a_sample_that_the_seed_draws() -> None:
    tasks = [str(number) for number in range(20)]
    some = subsets_of(tasks, [20, 10, 1, 10], 3)
    assert [len(one) for one in some] == [1, 1, 1, 10, 10, 10, 20] and len(set(some)) == 7
    assert all(list(one) == [task for task in tasks if task in one] for one in some)
    assert subsets_of(tasks, [10], 3) == some[3:6] != subsets_of(tasks, [10], 3, seed=1)
    assert subsets_of("abc", [2], 3) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_ways_of_leaving_out_are_all_or_a_sample_of_them() -> None:
    assert ways_of_leaving_out("abc", 2) == [("a", "b"), ("a", "c"), ("b", "c")]
    samples = [ways_of_leaving_out(range(8), 2, most=most) for most in range(1, 29)]
    assert all(set(less) < set(more) for less, more in pairwise(samples))
    assert samples[3] == [(1, 7), (2, 3), (4, 7), (6, 7)]  # that studies/results/generalise.json holds
    every, some = ways_of_leaving_out(range(8), 3, most=100), ways_of_leaving_out(range(8), 3, most=5, seed=1)
    assert len(every) == 56 and len(set(some)) == 5 and some == sorted(some) and set(some) <= set(every)
    assert some == ways_of_leaving_out(range(8), 3, most=5, seed=1) != ways_of_leaving_out(range(8), 3, most=5, seed=2)


def test_rows_are_means_of_what_jobs_found(suite_file: Path, workspace: Workspace) -> None:
    reference, shifts = str(suite_file), shifts_of(["contrast"], [5, 2, 5])
    assert [shift.text for shift in shifts] == ["contrast:2", "contrast:5"]
    preset = PRESETS["average"]
    job = robustness_job(preset, reference, TASKS, shifts, "cpu")
    planned = outlook([preset], [known(job, workspace).left], workspace)
    assert (planned.methods, planned.merges, planned.seconds, planned.unknown) == (
        [preset.title],
        1,
        None,
        [preset.title],
    )
    have_done(leaderboard_spec(preset, reference, TASKS, "cpu"), workspace, Here(workspace))
    assert outlook([preset], [known(job, workspace).left], workspace).seconds > 0
    result = have_done(job, workspace, Here(workspace)).result
    assert outlook([preset], [known(job, workspace).left], workspace).methods == []
    (row,), base = robustness_of(preset, result), zero_shot_of(result)
    assert row.mean("contrast:5") == np.mean(list(result.accuracy["contrast:5"].values()))
    assert row.relative("contrast:5") == row.mean("contrast:5") / np.mean(list(result.clean.values()))
    assert base.mean("clean") == np.mean(list(result.zero_shot["clean"].values()))
    left_out = ways_of_leaving_out(TASKS, 3, most=2)
    found = have_done(generalisation_job(preset, reference, TASKS, left_out, "cpu"), workspace, Here(workspace)).result
    means, base = generalisation_of(preset, found), base_on(found)
    for place, one in enumerate(found.splits):
        assert means.unseen[place] == np.mean([one.accuracy[task] for task in one.unseen])
        assert base.seen[place] == np.mean([found.zero_shot[task] for task in one.seen])
    assert average(means.seen) == np.mean(means.seen) and spread(means.seen) == pytest.approx(
        np.std(means.seen, ddof=1)
    )
    assert spread(means.seen[:1]) is None


def test_what_adapts_has_a_row_for_either_way(suite_file: Path, workspace: Workspace) -> None:
    result = execute(RobustnessJob.like(spec_of(suite_file, **ADAPTING), shifts=[PALE]), workspace)
    published, on_clean = robustness_of(PRESETS["adamerging"], result)
    assert (published.name, on_clean.name) == ("adamerging", "adamerging_on_clean")
    assert (published.accuracy, on_clean.accuracy) == (result.adapted, result.accuracy)
    assert published.clean == on_clean.clean == result.clean
    assert on_clean.title == "AdaMerging (on clean)" and published.method == on_clean.method
