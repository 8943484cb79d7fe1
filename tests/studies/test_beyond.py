"""How two methods differ beyond the benchmark: differences on the same splits and images, before means are taken."""

from pathlib import Path
from typing import Any

import pytest

from studies import beyond

ROBUST: dict[str, Any] = {
    "clean": {"a": {"x": 0.8, "y": 0.6}, "b": {"x": 0.7, "y": 0.3}},
    "accuracy": {
        "a": {"fog": {"3": {"x": 0.5, "y": 0.4}}, "rain": {"3": {"x": 0.7, "y": 0.4}}},
        "b": {"fog": {"3": {"x": 0.5, "y": 0.2}}, "rain": {"3": {"x": 0.5, "y": 0.4}}},
    },
}
UNSEEN: dict[str, Any] = {
    "splits": [{"seen": ["x", "y"], "unseen": ["z"]}, {"seen": ["z"], "unseen": ["x", "y"]}],
    "accuracy": {
        "a": [{"x": 0.9, "y": 0.7, "z": 0.5}, {"x": 0.3, "y": 0.1, "z": 0.9}],
        "b": [{"x": 0.8, "y": 0.6, "z": 0.5}, {"x": 0.1, "y": 0.1, "z": 0.7}],
    },
}


def test_methods_are_compared_split_by_split_and_task_by_task(monkeypatch: pytest.MonkeyPatch) -> None:
    files: dict[Path, dict[str, Any]] = {beyond.ROBUSTNESS: ROBUST, beyond.GENERALISE: UNSEEN}
    monkeypatch.setattr(beyond, "stored", files.__getitem__)
    found = beyond.differences("a", "b")
    assert found["seen"] == pytest.approx((15, 5))  # +10 and +20
    assert found["unseen"] == pytest.approx((5, 5))  # 0 and +10
    assert found["clean"] == pytest.approx((20, 10))  # +10 and +30
    assert found["corrupted"] == pytest.approx((10, 0))  # +10 each
