"""Progress by phases: which message belongs to which, and how long each took."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.core.progress import PhaseClock, phase_of
from merging.methods.merges.adamerging import CoefficientLearner
from merging.runs import reporting
from merging.runs.jobs import MergeSpec
from merging.runs.workspace import Workspace
from tests.carrying import execute
from tests.random_models import TASKS


@given(st.lists(st.tuples(st.sampled_from(["adapting", "merging", "evaluating"]), st.integers(0, 9)), max_size=12))
def test_time_between_messages_belongs_to_the_earlier_ones_phase(messages: list[tuple[str, int]]) -> None:
    now, seen, patch = [0.0], [], pytest.MonkeyPatch()
    patch.setattr(reporting.time, "perf_counter", lambda: now[0])
    try:
        clock = PhaseClock(lambda *message: seen.append(message))
        expected = {"preparing": 3.0}
        now[0] = 3.0
        for number, (phase, pause) in enumerate(messages):
            clock(number, len(messages), f"{phase}, step {number}")
            now[0] += pause
            expected[phase] = expected.get(phase, 0.0) + pause
        found = clock.seconds()
    finally:
        patch.undo()
    assert found == {**expected, "total": sum(expected.values())}
    assert [message for *_, message in seen] == [f"{phase}, step {n}" for n, (phase, _) in enumerate(messages)]


@pytest.mark.parametrize(
    ("fields", "phases"),
    [
        ({"merge": "adamerging", "merge_params": {"steps": 2}}, {"adapting"}),
        ({"merge_params": {"scaling": "auto"}}, {"computing the direction", "choosing λ"}),
        ({"edit": "ties"}, {"finding thresholds", "electing signs"}),
        ({"merge": "fisher", "merge_params": {"images": 2}}, {"Fisher information"}),
        ({"merge": "average"}, set()),
    ],
)
def test_a_run_tells_its_phases_after_what_happens(
    fields: dict[str, Any], phases: set[str], suite_file: Any, workspace: Workspace
) -> None:
    messages: list[str] = []
    spec = MergeSpec.build(suite=str(suite_file), tasks=TASKS, **fields)
    seconds = execute(spec, workspace, on_progress=lambda done, total, message: messages.append(message)).seconds
    assert set(seconds) == {"preparing", "merging", "evaluating", "total", *phases}
    assert {phase_of(message) for message in messages} <= set(seconds)
    assert sum(seconds.values()) == pytest.approx(2 * seconds["total"])


def test_the_first_step_of_adamerging_counts_as_adapting(
    suite_file: Any, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases, seen = [], []
    step = CoefficientLearner.step
    monkeypatch.setattr(CoefficientLearner, "step", lambda self, batch: (seen.append(phases[-1]), step(self, batch))[1])
    spec = MergeSpec.build(suite=str(suite_file), tasks=TASKS, merge="adamerging", merge_params={"steps": 3})
    execute(spec, workspace, on_progress=lambda done, total, message: phases.append(phase_of(message)))
    assert seen == ["adapting"] * 3
