"""The file of results that comes with a suite: what is in it already is not measured again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from merging.methods.presets import PRESETS
from merging.runs import Run
from merging.runs.jobs.baselines import BaselinesJob
from merging.runs.jobs.model_job import ModelResult
from merging.runs.leaderboard import spec_of
from merging.runs.shipped import Shipped, shipped_files
from merging.runs.workspace import Workspace
from merging.suites import load_suite
from studies import shipped, shipped_beyond
from studies.beyond import GENERALISE, ROBUSTNESS, stored
from studies.shipped import measure
from tests.app.conftest import build_suite
from tests.carrying import execute


def test_what_the_file_holds_is_kept_and_what_was_done_since_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {*shipped._FIRST, *shipped.scaling_view.AT_FIRST, "average", "awd_ta"}  # each has its files looked through
    monkeypatch.setattr(shipped, "PRESETS", {name: PRESETS[name] for name in PRESETS if name in few})
    reference = str(build_suite(tmp_path / "tiny"))
    suite = load_suite(reference)

    def done(name: str, home: Path) -> None:
        space, spec = Workspace(home), spec_of(PRESETS[name], reference, suite.task_names, "cpu")
        run = space.submit(spec)
        space.store.claim(run.id)
        space.store.finish(run.id, execute(spec, space))

    done("average", tmp_path / "one")
    file = measure(reference, suite, tmp_path / "one", only_done=True)
    first = file.read_bytes()
    assert measure(reference, suite, tmp_path / "two", only_done=True).read_bytes() == first
    done("awd_ta", tmp_path / "three")
    measure(reference, suite, tmp_path / "three", only_done=True)
    labels = [run.label for run in Shipped((file,)).merges()]
    assert labels == ["AWD + Task Arithmetic", "Weight averaging"]
    assert file.read_bytes() != first
    measure(reference, suite, tmp_path / "three", only_done=True, anew=True)
    assert [run.label for run in Shipped((file,)).merges()] == labels[:1]


def test_a_run_took_as_long_as_it_had_a_core_though_others_held_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = str(build_suite(tmp_path / "tiny"))
    space, spec = Workspace(tmp_path / "home"), spec_of(PRESETS["average"], reference, ("apples", "birds"), "cpu")
    held_up, plain = 1000.0, shipped.have_done

    def slowly(*given: Any) -> Run:
        run = plain(*given)
        assert run.started is not None and run.finished is not None
        result = run.result_as(ModelResult)
        assert result is not None
        after = run.finished + held_up
        result = result.model_copy(update={"seconds": {"merge": 0.25 * held_up, "evaluate": after - run.started}})
        return replace(run, finished=after, result_json=json.dumps(result.stored()))

    monkeypatch.setattr(shipped, "have_done", slowly)
    run = shipped._done(spec, space)
    assert run.started is not None and run.finished is not None
    took, result = run.finished - run.started, run.result_as(ModelResult)
    assert 0 < took < held_up / 2
    assert result is not None
    assert result.seconds["evaluate"] == pytest.approx(took, rel=1e-3)
    assert 0 < result.seconds["merge"] < 0.3 * took


@pytest.mark.parametrize(
    ("file", "place", "said"),
    [
        (ROBUSTNESS, ("zero_shot", "clean"), "robustness.json: zero-shot has other accuracies"),
        (GENERALISE, ("zero_shot",), "generalise.json: zero-shot has other accuracies"),
        (ROBUSTNESS, ("clean", "awd_ta"), "robustness.json: awd_ta has other accuracies"),
    ],
)
def test_a_study_of_other_files_or_methods_is_refused(
    file: Path, place: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, space = load_suite("mini"), Workspace(tmp_path / "home", shipped=shipped_files())
    jobs = [
        BaselinesJob.build(suite="mini", tasks=suite.task_names, split="test", device="cpu"),
        *(spec_of(PRESETS[name], "mini", suite.task_names, "cpu") for name in ("task_arithmetic", "awd_ta")),
    ]
    runs = [run for run in space.store.to_show([job.fingerprint(space) for job in jobs]) if run is not None]
    assert len(shipped_beyond.studied("mini", suite, space, runs)) == 4  # two views of both methods
    assert shipped_beyond.studied("mini", suite, space, runs[1:]) == []

    def changed(which: Path) -> dict[str, Any]:
        found = stored(which)
        if which == file:
            inner = found
            for name in place:
                inner = inner[name]
            inner["digits"] += 0.01
        return found

    monkeypatch.setattr(shipped_beyond, "stored", changed)
    with pytest.raises(ValueError, match=said):
        shipped_beyond.studied("mini", suite, space, runs)
