"""Opening weight files: what is in them, under which names, and what is refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from merging.core.errors import CheckpointError, CorruptCheckpoint, MismatchedCheckpoint, SpecError, UnsafeCheckpoint
from merging.weights.convert import convert
from merging.weights.files import MAX_HEADER_BYTES, Checkpoint, open_checkpoint
from merging.weights.files.header import read_header
from merging.weights.vectors import TaskVectors
from tests.random_models import random_state, random_vectors

STATE = random_state(0)


def assert_holds(checkpoint: Checkpoint, state: dict[str, torch.Tensor]) -> None:
    assert list(checkpoint) == sorted(state)
    for name, tensor in state.items():
        assert torch.equal(checkpoint[name], tensor)
        assert checkpoint.infos[name].shape == tuple(tensor.shape)
        assert checkpoint.infos[name].dtype == tensor.dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".bin", ".ckpt"])
def test_every_format_and_precision(tmp_path: Path, suffix: str, dtype: torch.dtype) -> None:
    state = {name: tensor.to(dtype) for name, tensor in STATE.items()} | {"steps": torch.arange(3)}
    path = tmp_path / f"model{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    checkpoint = open_checkpoint(path)
    assert_holds(checkpoint, state)
    assert not checkpoint.infos["steps"].floating
    assert checkpoint.nbytes == sum(tensor.nbytes for tensor in state.values())


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.image_encoder.model."])
@pytest.mark.parametrize("under", ["", "state_dict", "model_state_dict", "model"])
def test_wrappers_and_prefixes_are_seen_through(tmp_path: Path, prefix: str, under: str) -> None:
    state = {prefix + name: tensor for name, tensor in STATE.items()}
    torch.save({"epoch": 3, "optimizer": {}, under: state} if under else state, tmp_path / "model.pt")
    assert_holds(open_checkpoint(tmp_path / "model.pt"), STATE)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_visual_tower_is_taken_out_of_a_whole_clip(tmp_path: Path, prefix: str) -> None:
    state = {f"{prefix}visual.{name}": tensor for name, tensor in STATE.items()}
    state |= {f"{prefix}logit_scale": torch.tensor(4.6), f"{prefix}transformer.text.weight": torch.ones(2)}
    save_file(state, tmp_path / "clip.safetensors")
    checkpoint = open_checkpoint(tmp_path / "clip.safetensors")
    assert_holds(checkpoint, STATE)
    assert checkpoint.layout.dropped == (f"{prefix}logit_scale", f"{prefix}transformer.text.weight")
    assert_holds(open_checkpoint(tmp_path / "clip.safetensors", part="all"), state)


def test_the_old_format_of_torch_and_strided_tensors(tmp_path: Path) -> None:
    state = {"a": torch.arange(12.0).view(3, 4).T, "b": torch.arange(10.0)[::2], "c": torch.tensor(1.5)}
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save(state, tmp_path / "new.pt")
    for name in ("old.pt", "new.pt"):
        checkpoint = open_checkpoint(tmp_path / name)
        assert_holds(checkpoint, state)
        assert all(tensor.is_contiguous() for tensor in checkpoint.values())


def test_parameters_and_numbers_beside_tensors_are_fine(tmp_path: Path) -> None:
    torch.save({"weight": torch.nn.Parameter(torch.ones(2)), "epoch": 7, "name": "x"}, tmp_path / "model.pt")
    assert list(open_checkpoint(tmp_path / "model.pt")) == ["weight"]


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_file(STATE, tmp_path / f"{name}.safetensors")
    save_file({**STATE, "proj": STATE["proj"] + 1e-6}, tmp_path / "c.safetensors")
    a, b, c = (open_checkpoint(tmp_path / f"{name}.safetensors").fingerprint for name in "abc")
    assert a == b != c
    assert len(a) == 64


# --- what is refused -------------------------------------------------------------------------------------------------


def safetensors_bytes(header: object, payload: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + payload


def entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "three bytes": (b"abc", "truncated or not safetensors"),
    "oversized header": ((MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}", "the header declares"),
    "absurd header": (b"\xff" * 8 + b"{}", "the header declares"),
    "header past the end": ((500).to_bytes(8, "little") + b"{}", "the header declares"),
    "no json": ((4).to_bytes(8, "little") + b"{{{{", "header is not that"),
    "not utf-8": ((4).to_bytes(8, "little") + b"\xff\xfe\xfd\xfc", "header is not that"),
    "a list": (safetensors_bytes([1, 2]), "header is not that"),
    "a number": (safetensors_bytes(3), "header is not that"),
    "deep json": (len(b"[" * 50_000).to_bytes(8, "little") + b"[" * 50_000, "header is not that"),
    "an endless number": (
        safetensors_bytes(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,' + b"9" * 90_000 + b"]}}"),
        "header is not that of a safetensors file: a whole number of 90000 digits; nothing here is that large$",
    ),
    "no offsets": (safetensors_bytes({"a": {"dtype": "F32", "shape": [1]}}, b"\0" * 4), "header is not that"),
    "entry is text": (safetensors_bytes({"a": "F32"}, b"\0" * 4), "header is not that"),
    "odd dtype": (safetensors_bytes({"a": entry(0, 4, [1], "Q7")}, b"\0" * 4), "unsupported dtypes"),
    "truncated": (safetensors_bytes({"a": entry(0, 16, [4])}, b"\0" * 12), "truncated or was overwritten"),
    "trailing bytes": (safetensors_bytes({"a": entry(0, 4, [1])}, b"\0" * 9), "truncated or was overwritten"),
    "overlapping": (
        safetensors_bytes({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, b"\0" * 12),
        "leaves a gap",
    ),
    "gap": (safetensors_bytes({"a": entry(0, 4, [1]), "b": entry(8, 12, [1])}, b"\0" * 12), "leaves a gap"),
    "shape against bytes": (safetensors_bytes({"a": entry(0, 8, [3])}, b"\0" * 8), "leaves a gap"),
    "huge shape": (safetensors_bytes({"a": entry(0, 4, [2**40, 2**40])}, b"\0" * 4), "leaves a gap"),
    "negative shape": (safetensors_bytes({"a": entry(0, 4, [-1])}, b"\0" * 4), "not negative"),
    "negative offset": (safetensors_bytes({"a": entry(-4, 0, [1])}), "not negative|truncated"),
    "no tensors": (safetensors_bytes({}), "holds no tensors"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_safetensors_are_refused(tmp_path: Path, kind: str) -> None:
    content, reason = BROKEN[kind]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CorruptCheckpoint, match=reason) as caught:
        open_checkpoint(path)
    assert str(caught.value).startswith("model.safetensors: ")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("keep", [1, 8, 100, -1])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".old.pt"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"model{suffix}"
    if suffix == ".safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=suffix == ".pt")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CorruptCheckpoint) as caught:
        open_checkpoint(path)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("spaces", range(8))
def test_a_header_of_any_length_gives_tensors_that_own_their_storage(tmp_path: Path, spaces: int) -> None:
    """Who copies or sends a tensor takes all of its storage along: that is not to be the file."""
    state = STATE | {"steps": torch.arange(3), "flag": torch.tensor(True), "none": torch.empty(0, 4)}
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = content[8:end].rstrip() + b" " * spaces
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])
    checkpoint = open_checkpoint(path)
    assert_holds(checkpoint, state)
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in checkpoint.values())


def test_a_file_that_changes_while_it_is_opened_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    save_file(STATE, path)

    def read_and_replaced(file: Path) -> Any:
        header = read_header(file)
        save_file(STATE | {"more": torch.zeros(3)}, path)
        return header

    monkeypatch.setattr("merging.weights.files.checkpoint.read_header", read_and_replaced)
    with pytest.raises(CorruptCheckpoint, match="changed while it was opened"):
        open_checkpoint(path)


def test_ctrl_c_while_a_tensor_is_read_is_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time that Python gets to run, which is when signals are dealt with."""
    save_file(STATE, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path / "model.safetensors")
    read, cut = 0, torch.UntypedStorage.__getitem__

    def interrupted_at(moment: int) -> Callable[..., Any]:
        def cut_or_not(storage: torch.UntypedStorage, *where: Any) -> Any:
            nonlocal read
            read += 1
            if read == moment:
                raise KeyboardInterrupt
            return cut(storage, *where)

        return cut_or_not

    monkeypatch.setattr(torch.UntypedStorage, "__getitem__", interrupted_at(0))
    checkpoint["conv1.weight"]
    moments, read = read, 0
    assert moments
    for moment in range(1, moments + 1):
        monkeypatch.setattr(torch.UntypedStorage, "__getitem__", interrupted_at(moment))
        with pytest.raises(KeyboardInterrupt):
            checkpoint["conv1.weight"]
        read = 0


def test_a_header_that_was_read_before_is_compared_with_each_file(tmp_path: Path) -> None:
    for name in ("whole", "short"):
        save_file(STATE, tmp_path / f"{name}.safetensors")
    assert_holds(open_checkpoint(tmp_path / "whole.safetensors"), STATE)
    content = (tmp_path / "short.safetensors").read_bytes()
    (tmp_path / "short.safetensors").write_bytes(content[:-4])
    with pytest.raises(CorruptCheckpoint, match=r"short\.safetensors: .*truncated or was overwritten"):
        open_checkpoint(tmp_path / "short.safetensors")


@pytest.mark.parametrize(
    "make",
    [
        lambda path: torch.save([torch.ones(2)], path),
        lambda path: torch.save(torch.ones(2), path),
        lambda path: torch.save("weights", path),
        lambda path: torch.save({"epoch": 3}, path),
        lambda path: torch.save({}, path),
        lambda path: path.write_text("hello world\n" * 20),
        lambda path: path.write_bytes(bytes(range(256)) * 4),
    ],
    ids=["list", "tensor", "text", "no tensors", "nothing", "plain text", "bytes"],
)
def test_files_that_hold_no_state_dict_are_refused(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = tmp_path / "model.pt"
    make(path)
    with pytest.raises(CorruptCheckpoint, match=r"^model\.pt: ") as caught:
        open_checkpoint(path)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("held", "said"), [([torch.ones(2)] * 3, "list of 3"), ((1, 2), "tuple of 2"), (torch.ones(2), "tensor")]
)
def test_what_is_no_state_dict_is_named(tmp_path: Path, held: object, said: str) -> None:
    """Before: `convert` said that a list of tensors holds no tensors."""
    torch.save(held, tmp_path / "model.pt")
    advice = r'save model\.state_dict\(\), or \{"weight": tensor\} of a head'
    sentence = rf"model\.pt: holds a {said}; expected a state dict, .*; {advice}$"
    with pytest.raises(CorruptCheckpoint, match=sentence):
        open_checkpoint(tmp_path / "model.pt")
    assert re.match(sentence, convert(tmp_path / "model.pt", tmp_path / "out.safetensors").detail)


META = "is a meta tensor, a shape without numbers"


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda tensor: tensor.to_sparse(), "is sparse"),
        (lambda tensor: tensor.to_sparse_csr(), "is sparse"),
        (lambda tensor: tensor.to("meta"), META),
        (lambda tensor: torch.nn.Parameter(tensor.to("meta")), META),
    ],
)
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"epoch": {"net": state}, "model": {}}])
def test_tensors_without_plain_numbers_are_named(tmp_path: Path, make: Any, said: str, wrap: Any) -> None:
    """Before: `convert` said that the tower lacks a projection, and what was nested had tensors missing."""
    torch.save(wrap({**STATE, "proj": make(STATE["proj"])}), tmp_path / "model.pt")
    sentence = rf"^model\.pt: tensor '\S*proj' {said}; expected plain tensors .* save model\.state_dict\(\) again$"
    with pytest.raises(CheckpointError, match=sentence):
        open_checkpoint(tmp_path / "model.pt")
    assert re.match(sentence, convert(tmp_path / "model.pt", tmp_path / "out.safetensors").detail)


def test_a_type_that_can_not_be_merged_is_named(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3, dtype=torch.complex64)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"^model\.pt: tensor 'a' is torch\.complex64, a type that can't be"):
        open_checkpoint(tmp_path / "model.pt")


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_what_else_a_training_keeps_may_be_of_any_kind(tmp_path: Path) -> None:
    torch.save({"model": STATE, "queue": torch.ones(3).to_sparse()}, tmp_path / "model.pt")
    assert open_checkpoint(tmp_path / "model.pt").keys() == STATE.keys()


def test_missing_files_folders_and_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^nowhere\.pt: no such weight file"):
        open_checkpoint(tmp_path / "nowhere.pt")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="no such weight file"):
        open_checkpoint(tmp_path / "folder.safetensors")
    (tmp_path / "model.h5").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"unknown kind of weight file '\.h5'"):
        open_checkpoint(tmp_path / "model.h5")


def test_the_wrong_suffix_is_refused(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model.pt")
    with pytest.raises(CorruptCheckpoint):
        open_checkpoint(tmp_path / "model.pt")
    torch.save(STATE, tmp_path / "model.safetensors")
    with pytest.raises(CorruptCheckpoint):
        open_checkpoint(tmp_path / "model.safetensors")


# --- files that don't belong together --------------------------------------------------------------------------------


def changed(tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> TaskVectors:
    vectors = random_vectors(tmp_path, tasks=2)
    state = {name: tensor.clone() for name, tensor in vectors.checkpoints[1].items()}
    change(state)
    save_file(state, tmp_path / "other.safetensors")
    return TaskVectors(
        vectors.base, (vectors.checkpoints[0], open_checkpoint(tmp_path / "other.safetensors")), ("a", "b")
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.update(proj=torch.ones(6, 6)), r"tensor 'proj' has shape \[6, 6\].*has \[6, 5\]"),
        (lambda state: state.update(proj=torch.ones(5, 6)), r"tensor 'proj' has shape \[5, 6\]"),
        (lambda state: state.pop("proj"), r"base\.safetensors: 1 tensor missing \('proj'\); both"),
        (lambda state: state.update(extra=torch.ones(1)), r"base\.safetensors: 1 tensor unexpected \('extra'\); both"),
        (lambda state: state.update(proj=torch.ones(6, 5, dtype=torch.int64)), "is torch.int64, in the base"),
    ],
    ids=["shape", "transposed", "missing", "extra", "integer"],
)
def test_models_of_another_architecture_are_refused(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], reason: str
) -> None:
    with pytest.raises(MismatchedCheckpoint, match=reason) as caught:
        changed(tmp_path, change)
    assert "other.safetensors (task 'b')" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_precision_of_its_own_is_fine(tmp_path: Path) -> None:
    vectors = changed(tmp_path, lambda state: state.update(proj=state["proj"].half()))
    assert vectors.stack("proj")[1].dtype == torch.float32


def test_task_names_must_differ_and_match_the_files(vectors: TaskVectors) -> None:
    with pytest.raises(SpecError, match="named twice"):
        TaskVectors(vectors.base, vectors.checkpoints, ("a", "b", "a"))
    with pytest.raises(SpecError, match="2 task names for 3 checkpoints"):
        TaskVectors(vectors.base, vectors.checkpoints, ("a", "b"))
    with pytest.raises(SpecError):
        TaskVectors(vectors.base, (), ())


def test_unsafe_is_not_corrupt() -> None:
    """Callers tell the two apart: one means download again, the other means do not."""
    assert not issubclass(UnsafeCheckpoint, CorruptCheckpoint)
    assert not issubclass(CorruptCheckpoint, UnsafeCheckpoint)
