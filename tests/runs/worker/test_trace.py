from pathlib import Path

import pytest

from merging.evaluation.evaluator import Evaluator
from merging.methods.context import Context
from merging.methods.merges.adamerging import AdaMergingParams, adamerging
from merging.runs.worker.trace import Trace, read_trace
from merging.suites import Suite


def test_lines_come_back_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("merging.runs.worker.trace._WRITE_SECONDS", -1.0)
    trace = Trace(tmp_path / "trace")
    for step in range(3):
        trace({"step": step, "coefficients": [0.1 * step, 0.3]})
    assert read_trace(tmp_path / "trace") == [{"step": step, "coefficients": [0.1 * step, 0.3]} for step in range(3)]


def test_numbers_a_moment_after_others_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("merging.runs.worker.trace._WRITE_SECONDS", 3600.0)
    trace = Trace(tmp_path / "trace")
    trace({"step": 1})
    trace({"step": 2})
    assert read_trace(tmp_path / "trace") == [{"step": 1}]


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    assert read_trace(path) == []
    path.write_text('{"step": 1}\n{"st')
    assert read_trace(path) == [{"step": 1}]


def test_adamerging_tells_every_step(suite: Suite) -> None:
    told: list[dict[str, object]] = []
    context = Context(evaluator=Evaluator(suite), on_numbers=lambda numbers: told.append(dict(numbers)))
    vectors = suite.vectors(suite.task_names[:2])
    merge = adamerging(vectors, AdaMergingParams(steps=3, batch_size=2), context)
    assert [one["step"] for one in told] == [1, 2, 3]
    assert [one["coefficients"] for one in told] == merge.report["trajectory"][1:]
    assert [one["entropy"] for one in told] == merge.report["entropy"]
