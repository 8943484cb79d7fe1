"""Files made to run code, or to eat the machine, when they are opened. Each is refused and leaves no trace."""

import contextlib
import io
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from merging.core.errors import CheckpointError, CorruptCheckpoint, UnsafeCheckpoint
from merging.weights.files import open_checkpoint
from merging.weights.files.pickled_modules import open_pickled_module
from merging.weights.files.torch_files import requested_globals


class Calls:
    """Pickles to a call of a function with arguments."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


class Net(torch.nn.Module):
    """A model of a class that only this file knows."""


def attacks(marker: Path) -> dict[str, object]:
    """Objects whose unpickling would create the marker file."""
    code = f"open({str(marker)!r}, 'w')"
    return {
        "os.system": Calls(os.system, f"touch {marker}"),
        "eval": Calls(eval, code),
        "exec": Calls(exec, code),
        "open": Calls(open, str(marker), "w"),
        "subprocess": Calls(subprocess.check_output, ["touch", str(marker)]),
        "import": Calls(__import__, "antigravity"),
        "whole module": torch.nn.Linear(2, 2),
        "own class": Net(),
    }


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("how", ["zip", "old format", "bare pickle", "protocol 0", "inside a state dict"])
@pytest.mark.parametrize("kind", attacks(Path("marker")))
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, kind: str, how: str) -> None:
    marker, path = tmp_path / "marker", tmp_path / "model.pt"
    attack = attacks(marker)[kind]
    if how == "zip":
        torch.save(attack, path)
    elif how == "old format":
        torch.save({"a": torch.ones(2), "b": attack}, path, _use_new_zipfile_serialization=False)
    elif how == "inside a state dict":
        torch.save({"state_dict": {"a": torch.ones(2), "b": attack}}, path)
    else:
        path.write_bytes(pickle.dumps(attack, protocol=0 if how == "protocol 0" else 4))
    with pytest.raises(UnsafeCheckpoint, match=r"^model\.pt: ") as caught:
        open_checkpoint(path)
    assert "nothing was loaded" in str(caught.value)
    assert "it asks for" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert not marker.exists()


def test_the_message_names_what_the_pickle_asks_for(tmp_path: Path) -> None:
    torch.save({"weight": Calls(os.system, "true")}, tmp_path / "model.pt")
    with pytest.raises(UnsafeCheckpoint, match=r"posix\.system|nt\.system"):
        open_checkpoint(tmp_path / "model.pt")


def test_state_dicts_ask_for_nothing(tmp_path: Path) -> None:
    state = {"a": torch.ones(2), "b": torch.ones(2).bfloat16(), "n": torch.arange(3)}
    for name, zipped in (("new.pt", True), ("old.pt", False)):
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=zipped)
        assert requested_globals(tmp_path / name) == []


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.filterwarnings("ignore:.torch.load. received a zip file")
def test_torchscript_archives_hold_code(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "model.pt"))
    with pytest.raises(UnsafeCheckpoint, match=r"a TorchScript archive, .* convert` takes the tensors out"):
        open_checkpoint(tmp_path / "model.pt")


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", b"\0" * 50_000_000)
    (tmp_path / "model.pt").write_bytes(content.getvalue())
    with pytest.raises(UnsafeCheckpoint, match="unpacks to 50000000 bytes"):
        open_checkpoint(tmp_path / "model.pt")


def test_a_tensor_larger_than_its_file_is_not_made(tmp_path: Path) -> None:
    """With a stride of 0, four bytes on disk stand for terabytes."""
    torch.save({"a": torch.zeros(1).expand(10**12)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="more than the whole file"):
        open_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_it_is_bytes_that_must_be_in_the_file(tmp_path: Path, dtype: torch.dtype, zipped: bool) -> None:
    """As many entries as there are bytes in the file, of several bytes each: they can't all be in it."""
    path = tmp_path / "model.pt"
    torch.save({"a": torch.zeros(1, dtype=dtype).expand(300)}, path, _use_new_zipfile_serialization=zipped)
    count = path.stat().st_size - 64  # of which a longer number in the pickle takes a few
    torch.save({"a": torch.zeros(1, dtype=dtype).expand(count)}, path, _use_new_zipfile_serialization=zipped)
    assert count <= path.stat().st_size < count * dtype.itemsize
    with pytest.raises(CheckpointError, match=f"declares {count * dtype.itemsize} bytes, more than the whole file"):
        open_checkpoint(path)


def test_escapes_that_no_text_has_are_no_globals(tmp_path: Path) -> None:
    """Found by the long fuzz: the module that lists a pickle's instructions warns of them."""
    (tmp_path / "model.pt").write_bytes(b"\x80\x02cos\nsystem\nS'\\?'\n.")
    assert requested_globals(tmp_path / "model.pt") == ["os.system"]
    with pytest.raises(CheckpointError, match=r"^model\.pt: "):
        open_pickled_module(tmp_path / "model.pt")


def test_a_broken_archive_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(100)}, tmp_path / "model.pt")
    content = bytearray((tmp_path / "model.pt").read_bytes())
    start = content.rindex(b"PK\x01\x02")
    content[start : start + 46] = b"\xff" * 46
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(CorruptCheckpoint):
        open_checkpoint(tmp_path / "model.pt")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_give_our_errors_or_a_checkpoint(tmp_path: Path, seed: int) -> None:
    """Whatever bytes are wrong, nothing but this package's own errors comes out."""
    random = torch.Generator().manual_seed(seed)
    for name, zipped in (("new.pt", True), ("old.pt", False)):
        torch.save(
            {"a": torch.ones(20), "b": torch.zeros(3, 4)}, tmp_path / name, _use_new_zipfile_serialization=zipped
        )
        content = bytearray((tmp_path / name).read_bytes())
        for position in torch.randint(0, len(content), (6,), generator=random).tolist():
            content[position] ^= 1 + position % 255
        (tmp_path / name).write_bytes(content)
        with contextlib.suppress(CheckpointError):
            for tensor in open_checkpoint(tmp_path / name).values():
                assert tensor.nbytes <= len(content)
