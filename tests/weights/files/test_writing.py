"""Writing weight files as a stream: right bytes, or no file at all."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from merging.core.errors import CheckpointError
from merging.weights.files import open_checkpoint, save_tensors
from merging.weights.files.checkpoint import TensorInfo
from tests.random_models import random_state

STATE = dict(sorted(random_state(0).items()))
INFOS = {name: TensorInfo(tuple(tensor.shape), tensor.dtype) for name, tensor in STATE.items()}


def test_the_official_reader_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "model.safetensors"
    written = save_tensors(path, INFOS, STATE.items(), {"method": "Task Arithmetic, λ = 0.3"})
    assert written == path.stat().st_size
    loaded = load_file(path)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in STATE.items())
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "method": "Task Arithmetic, λ = 0.3"}


@given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool]),
)
def test_any_shape_and_dtype_comes_back(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[list[int]], dtype: torch.dtype
) -> None:
    state = {f"tensor {index}": torch.randn(shape).to(dtype) for index, shape in enumerate(shapes)}
    infos = {name: TensorInfo(tuple(tensor.shape), dtype) for name, tensor in state.items()}
    path = tmp_path_factory.mktemp("written") / "model.safetensors"
    save_tensors(path, infos, state.items())
    found = open_checkpoint(path)
    assert found.infos == infos
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_tensors_are_converted_and_made_contiguous(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensor = torch.arange(6.0).view(2, 3).T.requires_grad_()
    save_tensors(path, {"a": TensorInfo((3, 2), torch.float16)}, [("a", tensor)])
    assert torch.equal(open_checkpoint(path)["a"], tensor.detach().half())


def failing() -> Iterator[tuple[str, torch.Tensor]]:
    yield next(iter(STATE.items()))
    raise KeyboardInterrupt


def wrong_streams() -> dict[str, list[tuple[str, torch.Tensor]]]:
    items = list(STATE.items())
    return {
        "too short": items[:-1],
        "too long": [*items, ("more", torch.ones(1))],
        "other order": items[::-1],
        "other shape": [(items[0][0], torch.ones(7)), *items[1:]],
    }


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("kind", wrong_streams())
def test_a_wrong_stream_leaves_things_as_they_were(tmp_path: Path, kind: str, existing: bool) -> None:
    path = tmp_path / "model.safetensors"
    if existing:
        path.write_bytes(b"what was there before")
    with pytest.raises(CheckpointError, match=r"^model\.safetensors: ") as caught:
        save_tensors(path, INFOS, wrong_streams()[kind])
    assert str(tmp_path) not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == (["model.safetensors"] if existing else [])
    assert not existing or path.read_bytes() == b"what was there before"


@pytest.mark.parametrize("existing", [False, True])
def test_an_interruption_leaves_things_as_they_were(tmp_path: Path, existing: bool) -> None:
    path = tmp_path / "model.safetensors"
    if existing:
        path.write_bytes(b"what was there before")
    with pytest.raises(KeyboardInterrupt):
        save_tensors(path, INFOS, failing())
    assert [p.name for p in tmp_path.iterdir()] == (["model.safetensors"] if existing else [])
    assert not existing or path.read_bytes() == b"what was there before"


def test_a_place_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match="can't be written") as caught:
        save_tensors(tmp_path / "file" / "model.safetensors", INFOS, STATE.items())
    assert str(tmp_path) not in str(caught.value)


def test_only_safetensors_are_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"written as \.safetensors"):
        save_tensors(tmp_path / "model.pt", INFOS, STATE.items())
