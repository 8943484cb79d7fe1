"""Choosing a device, and what a context does."""

import pytest
import torch

from merging.core import devices
from merging.core.errors import Cancelled, DeviceError, MissingPart
from merging.core.progress import no_progress
from merging.evaluation.evaluator import Evaluator
from merging.methods.context import Context


def test_every_available_name_resolves() -> None:
    names = devices.available()
    assert names[:2] == ["auto", "cpu"]
    for name in names:
        device = devices.resolve(name)
        info = devices.describe(device)
        assert info.title
        assert info.memory > 2**20


def test_auto_prefers_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.resolve("auto") == torch.device("cuda", 0)
    assert devices.resolve("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match="shows 2 CUDA devices"):
        devices.resolve("cuda:2")


@pytest.mark.parametrize("name", ["", "gpu", "cpu:0", "cuda:x", "cuda:-1", "mps:1", "CPU", "cuda:0:1"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="unknown device"):
        devices.resolve(name)


def test_absent_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="shows 0 CUDA devices; use --device auto or cpu"):
        devices.resolve("cuda")
    with pytest.raises(DeviceError, match="no Apple GPU"):
        devices.resolve("mps")


def test_a_step_reports_and_then_the_next_one_stops() -> None:
    seen: list[tuple[int, int, str]] = []
    Context(on_progress=lambda *step: seen.append(step)).step(1, 2, "working")
    assert seen == [(1, 2, "working")]
    with pytest.raises(Cancelled, match="cancelled during 'working', step 1 of 2"):
        Context(cancelled=lambda: True).step(1, 2, "working")
    no_progress(1, 2, "to nobody")


def test_images_are_there_or_missing(evaluator: Evaluator) -> None:
    assert Context(evaluator=evaluator).need_images("a method", ()) is evaluator
    with pytest.raises(MissingPart, match=r"^a method needs images"):
        Context().need_images("a method", ())
