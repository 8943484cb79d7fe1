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


def test_further_methods_are_added_to_what_was_measured_on_the_same_images() -> None:
    common = {"suite": "mini", "split": "test", "zero_shot": {"x": 0.5}}
    before = {**common, "methods": ["overlap", "awd_ta"], "accuracy": {"overlap": 1, "awd_ta": 2, "other": 0}}
    new = {**common, "methods": ["awd_ta", "tsv_m"], "accuracy": {"awd_ta": 3, "tsv_m": 4}}
    found = beyond.added(before, new)
    assert found["methods"] == ["awd_ta", "tsv_m", "overlap"]
    assert found["accuracy"] == {"awd_ta": 3, "tsv_m": 4, "overlap": 1, "other": 0}
    with pytest.raises(ValueError, match="zero_shot differs from what is stored"):
        beyond.added(before, {**new, "zero_shot": {"x": 0.25}})
