"""The file of results that comes with a suite: what is in it already is not measured again."""

from pathlib import Path
from typing import Any

import pytest

from merging.methods.presets import PRESETS
from merging.runs.jobs.baselines import BaselinesJob
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
