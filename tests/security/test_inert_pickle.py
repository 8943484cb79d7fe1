"""Pickled models made to run code or to eat the machine when they are converted: refused, or without any effect."""

import io
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from merging.cli import main
from merging.core.errors import CheckpointError, CorruptCheckpoint, UnsafeCheckpoint
from merging.core.limits import MAX_PICKLE_OPERATIONS
from merging.weights.files import inert_pickle
from merging.weights.files.inert_pickle import Global, Shell
from merging.weights.files.pickled_modules import open_pickled_module

TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
LARGE = 20 * 2**20  # bytes that reading a small file may take at most


class Calls:
    """Pickles to a call of a function with arguments, and more of what ``__reduce__`` may give."""

    def __init__(self, *reduced: object) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple[object, ...]:
        return self.reduced


class Evil(torch.nn.Module):
    """A module whose state is set by running code."""

    def __init__(self, marker: Path) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(3))
        self.hook = Calls(os.system, (f"touch {marker}",))


def attacks(marker: Path) -> dict[str, object]:
    """Objects whose unpickling by the usual means would create the marker file."""
    code = f"open({str(marker)!r}, 'w')"
    touch = f"touch {marker}"
    return {
        "os.system": Calls(os.system, (touch,)),
        "eval": Calls(eval, (code,)),
        "exec": Calls(exec, (code,)),
        "import": Calls(__import__, ("antigravity",)),
        "getattr": Calls(getattr, (Calls(__import__, ("os",)), "system")),
        "map": Calls(list, (Calls(map, (os.system, [touch])),)),
        "subprocess": Calls(subprocess.check_output, (["touch", str(marker)],)),
        "nested pickle": Calls(pickle.loads, (pickle.dumps(Calls(os.system, (touch,))),)),
        "torch.load": Calls(torch.load, (str(marker),)),
        "setstate": Calls(dict, (), {"a": Calls(os.system, (touch,))}),
        "state setter": Calls(dict, (), (touch,), None, None, os.system),
        "items": Calls(list, (), None, iter([Calls(os.system, (touch,))])),
        "pairs": Calls(dict, (), None, None, iter([("a", Calls(os.system, (touch,)))])),
        "in an ordered dict": {"state_dict": {"a": Calls(os.system, (touch,)), "weight": torch.eye(3)}},
        "in a module": Evil(marker),
    }


def archive(path: Path, pickled: bytes, members: dict[str, bytes] | None = None, prefix: str = "model") -> Path:
    """A zip as torch writes it, around a hand-made pickle and storages."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in {f"{prefix}/data.pkl": pickled, **(members or {})}.items():
            file.writestr(name, content)
    return path


def stored(key: str = "0", numel: int = 4, kind: str = "Float") -> bytes:
    """The persistent name of a storage, in opcodes."""
    return (
        b"(X\x07\0\0\0storagectorch\n"
        + f"{kind}Storage\n".encode()
        + b"X"
        + struct.pack("<I", len(key))
        + key.encode()
        + b"X\x03\0\0\0cpu"
        + number(numel)
        + b"tQ"
    )


def number(value: int) -> bytes:
    blob = value.to_bytes(max(1, value.bit_length() // 8 + 1), "little", signed=True)
    return b"\x8b" + struct.pack("<i", len(blob)) + blob


def tensor(offset: int, shape: tuple[int, ...], stride: tuple[int, ...], storage: bytes | None = None) -> bytes:
    """A tensor in opcodes."""
    sizes = [b"(" + b"".join(map(number, values)) + b"t" for values in (shape, stride)]
    rebuilt = (stored() if storage is None else storage) + number(offset) + b"".join(sizes)
    return TENSOR + b"(" + rebuilt + b"\x89ccollections\nOrderedDict\n)RtR"


def named(value: bytes, name: bytes = b"weight") -> bytes:
    """A dict with one entry, as a whole pickle."""
    return b"\x80\x02}X" + struct.pack("<I", len(name)) + name + value + b"s."


def harmless(path: Path, marker: Path) -> str:
    """Convert a file; nothing may have run, whatever the outcome. Gives what was printed."""
    result = CliRunner().invoke(main, ["convert", str(path), "--output", str(path.parent / "out")])
    assert result.exit_code in (0, 1)
    assert isinstance(result.exception, SystemExit | None)
    assert not marker.exists()
    return result.stdout


# --- code -------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("how", ["zip", "old format", "protocol 0", "protocol 4", "bare pickle"])
@pytest.mark.parametrize("kind", attacks(Path("marker")))
def test_nothing_in_a_pickle_runs(tmp_path: Path, kind: str, how: str) -> None:
    marker, path = tmp_path / "marker", tmp_path / "model.pt"
    attack = attacks(marker)[kind]
    try:
        if how in ("zip", "old format"):
            torch.save(attack, path, _use_new_zipfile_serialization=how == "zip")
        elif how == "bare pickle":
            path.write_bytes(pickle.dumps(attack))
        else:
            archive(path, pickle.dumps(attack, protocol=int(how[-1])))
    except (NotImplementedError, TypeError, ValueError):
        pytest.skip("this protocol can't say that")
    harmless(path, marker)
    assert "antigravity" not in sys.modules


def test_the_weights_beside_an_attack_come_out(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    torch.save(Evil(marker), tmp_path / "head.pt")
    assert "named in it, not imported: posix.system" in harmless(tmp_path / "head.pt", marker)
    assert (tmp_path / "out" / "head.safetensors").exists()


class Trap:
    """Raises when anything is done with it."""

    def __setstate__(self, state: object) -> None:
        raise AssertionError("a state was set")


@pytest.mark.parametrize(
    "pickled",
    [
        b"cos\nsystem\n(X\x04\0\0\0truetR}X\x01\0\0\0ak\x01sb.",  # a state for what a call would have given
        b"cos\nsystem\n}X\x01\0\0\0aK\x01sb.",  # a state for a name
        b"ccollections\nOrderedDict\n}X\x0c\0\0\0__setstate__K\x01sb.",  # new attributes for a class that is known
        b"ctorch._utils\n_rebuild_tensor_v2\n}X\x08\0\0\0__code__K\x01sb.",
        b"c__main__\nx\n)\x81X\x04\0\0\0truea.",  # append to an unknown object
        b"c__main__\nx\n)\x81(K\x01K\x02u.",  # items of an unknown object
        b"c__main__\nx\n)\x81)R.",  # call an unknown object
        b"cos\nsystem\n)\x81)R.",
        b"(ios\nsystem\n.",  # the oldest way to make an object
        b"(cos\nsystem\nX\x04\0\0\0trueo.",
        b"cos\nsystem\nX\x04\0\0\0true\x85}\x92.",
        b"ccopyreg\n_reconstructor\n(cos\nsystem\nc__builtin__\nobject\nNtR.",
        b"X\x02\0\0\0osX\x06\0\0\0system\x93X\x04\0\0\0true\x85R.",
        b"\x8c\x08builtins\x8c\x0b__import__.os\x93X\x02\0\0\0os\x85R.",  # dotted names
    ],
)
def test_calls_and_states_are_recorded_and_not_made(pickled: bytes) -> None:
    try:
        found = inert_pickle.load(io.BytesIO(pickled))
    except CorruptCheckpoint:
        return
    assert type(found) in (Shell, Global)


def test_shells_know_their_class_and_state() -> None:
    trap = Trap()
    trap.__dict__["value"] = [1, 2]
    for protocol in range(6):
        found = inert_pickle.load(io.BytesIO(pickle.dumps(trap, protocol)))
        assert isinstance(found, Shell)
        assert found.kind == f"{Trap.__module__}.Trap", protocol
        assert found.state == {"value": [1, 2]}


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x82\x01.",  # an object of the extension registry
        b"\x83\x01\x01.",
        b"\x84\x01\0\0\0.",
        b"\x97.",
        b"N\x98.",  # buffers outside of the pickle
        b"Pname\n.",  # a persistent name that is text
        b"N.N.",
        b".",
        b"",
        b"t.",
        b"1.",
        b"0.",
        b"2.",
        b"a.",
        b"s.",
        b"R.",
        b"b.",
        b"Q.",
        b"\x93.",
        b"h\x05.",
        b"g5\n.",
        b"jaaaa.",  # what was never remembered
        b"p0\n.",
        b"K\x01K\x02\x93.",
        b"(K\x01d.",
        b"NQ.",
        b"(K\x01K\x02tQ.",
        b"\xff.",
        b"X\xff\xff\xff\x7fa.",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.",
        b"\x8b\xff\xff\xff\xff.",
        b"L" + b"9" * 5000 + b"L\n.",
        b"I" + b"9" * 5000 + b"\n.",
        b"X\x02\0\0\0\xff\xfe.",
    ],
)
def test_impossible_instructions_end_the_reading(pickled: bytes) -> None:
    try:
        found = inert_pickle.load(io.BytesIO(pickled))
    except CorruptCheckpoint:
        return
    assert found is None or type(found) in (str, tuple)


# --- memory and time --------------------------------------------------------------------------------------------------


def text(value: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value


def nested(depth: int, name: bytes) -> bytes:
    """Modules in modules, each under the same long remembered name and with a tensor of the same name."""
    open_module = b"c__main__\nM\n)\x81}" + text(b"_modules") + b"}h\x01"
    leaf = b"c__main__\nM\n)\x81}" + text(b"_parameters") + b"}h\x01" + tensor(0, (2, 2), (2, 1)) + b"ssb"
    return b"\x80\x02" + text(name) + b"q\x01" + open_module * depth + leaf + b"ssb" * depth + b"."


HUGE: dict[str, bytes] = {
    "a long name again and again": text(b"a" * 100_000) + b"q\x01" + b"h\x01h\x01\x930" * 10_000 + b"N.",
    "a long list as many dicts": b"]("
    + b"K\x01K\x02\x86" * 3000
    + b"eq\x01"
    + b"ccollections\nOrderedDict\nh\x01\x85R0" * 3000
    + b"N.",
    "a long list as many sets": b"](" + b"K\x01" * 3000 + b"eq\x01" + b"c__builtin__\nset\nh\x01\x85R0" * 3000 + b"N.",
    "a long list as a persistent name": b"](" + b"K\x01" * 3000 + b"eq\x01" + b"h\x01Q0" * 3000 + b"N.",
    "billions of laughs": b"]q\x00" + b"".join(b"](" + b"h%c" % i * 10 + b"eq%c" % (i + 1) for i in range(100)) + b".",
    "tuples as keys": b")q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(100)) + b"0}hdNs.",
    "modules in modules": nested(10_000, b"layer"),
    "names that grow": nested(3000, b"a" * 250),
    "deep tuples": b")" + b"\x85" * 60_000 + b".",
    "deep lists": b"]" * 50_000 + b"a" * 49_999 + b".",
    "marks": b"(" * 100_000 + b".",
    "memo far away": b"Nr\xff\xff\xff\xff.",
}


@pytest.mark.parametrize("kind", HUGE)
def test_small_files_take_little_memory(tmp_path: Path, kind: str) -> None:
    path = archive(tmp_path / "model.pt", HUGE[kind], {"model/data/0": b"\0" * 16})
    tracemalloc.start()
    with pytest.raises(CheckpointError) as caught:
        open_pickled_module(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(str(caught.value)) < 1000
    assert peak < LARGE + 100 * path.stat().st_size


def test_depth_alone_is_no_danger(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.pt", nested(30_000, b""), {"model/data/0": b"\0" * 16})
    assert list(open_pickled_module(path).tensors) == [""]


def test_instructions_are_counted() -> None:
    with pytest.raises(CheckpointError, match="instructions"):
        inert_pickle.load(io.BytesIO(b"N0" * MAX_PICKLE_OPERATIONS + b"N."))


# --- tensors that are not there ---------------------------------------------------------------------------------------

FOUR = {"model/data/0": b"\0" * 16}
BEYOND: dict[str, tuple[bytes, dict[str, bytes], str]] = {
    "offset": (tensor(1, (4,), (1,)), FOUR, "reaches beyond its storage"),
    "stride": (tensor(0, (2,), (4,)), FOUR, "reaches beyond its storage"),
    "a stride of 0": (tensor(0, (10**12,), (0,)), FOUR, "reaches beyond its storage"),
    "sizes that overflow": (tensor(0, (2**33, 2**33), (0, 0)), FOUR, "damaged"),
    "huge sizes": (tensor(0, (2**300,), (1,)), FOUR, "damaged"),
    "sizes that hide behind a 0": (tensor(0, (0, 2**40, 2**40), (1, 1, 1)), FOUR, "damaged"),
    "negative offset": (tensor(-1, (1,), (1,)), FOUR, "damaged"),
    "negative size": (tensor(0, (-1,), (1,)), FOUR, "damaged"),
    "negative stride": (tensor(3, (4,), (-1,)), FOUR, "damaged"),
    "sizes without strides": (tensor(0, (2, 2), (1,)), FOUR, "damaged"),
    "a hundred dimensions": (tensor(0, (1,) * 100, (1,) * 100), FOUR, "damaged"),
    "more numbers than bytes": (tensor(0, (8,), (1,), stored(numel=8)), FOUR, "not all in the file"),
    "a storage that is not there": (tensor(0, (4,), (1,), stored(key="1")), FOUR, "not all in the file"),
    "a key that is a path": (tensor(0, (4,), (1,), stored(key="../data.pkl")), FOUR, "not all in the file"),
    "a long key": (tensor(0, (4,), (1,), stored(key="k" * 100_000)), FOUR, "not all in the file"),
    "a huge storage": (tensor(0, (4,), (1,), stored(numel=2**200)), FOUR, "damaged"),
    "complex numbers": (tensor(0, (1,), (1,), stored(kind="ComplexFloat")), FOUR, "of a kind that is not read"),
    "no storage": (tensor(0, (1,), (1,), b"N"), FOUR, "damaged"),
    "code as a storage": (tensor(0, (1,), (1,), b"cos\nsystem\n)R"), FOUR, "damaged"),
}


@pytest.mark.parametrize("kind", BEYOND)
def test_tensors_beyond_their_storage_are_refused(tmp_path: Path, kind: str) -> None:
    value, members, reason = BEYOND[kind]
    path = archive(tmp_path / "model.pt", named(value), members)
    with pytest.raises(CheckpointError, match=reason) as caught:
        open_pickled_module(path)
    assert str(caught.value).startswith("model.pt: ") and str(tmp_path) not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_hand_made_tensors_are_read(tmp_path: Path) -> None:
    """What the refusals above start from is right."""
    numbers = struct.pack("<4f", 1, 2, 3, 4)
    for prefix in ("model", "archive", "../../etc"):
        path = archive(tmp_path / "model.pt", named(tensor(0, (2, 2), (1, 2))), {f"{prefix}/data/0": numbers}, prefix)
        assert open_pickled_module(path).tensors["weight"].tolist() == [[1, 3], [2, 4]]


def test_one_storage_under_many_names_is_not_written_many_times(tmp_path: Path) -> None:
    entries = b"".join(text(f"w{index}".encode()) + b"h\x01s" for index in range(1000))
    pickled = b"\x80\x02" + tensor(0, (250_000,), (1,), stored(numel=250_000)) + b"q\x010}" + entries + b"."
    path = archive(tmp_path / "model.pt", pickled, {"model/data/0": b"\0" * 1_000_000})
    with pytest.raises(CorruptCheckpoint, match="its tensors take 1000000000 bytes"):
        open_pickled_module(path)


# --- archives ---------------------------------------------------------------------------------------------------------


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model/data.pkl", b"N0" * 10_000_000 + b"N.")


def compressed_storage(path: Path) -> None:
    random = os.urandom(1000)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model/data.pkl", named(tensor(0, (4,), (1,))))
        file.writestr("model/data/0", b"\0" * 16, zipfile.ZIP_DEFLATED)
        file.writestr("model/noise", random)


def two_pickles(path: Path) -> None:
    archive(path, named(tensor(0, (4,), (1,))), {"other/data.pkl": b"N.", **FOUR})


def large_pickle(path: Path) -> None:
    archive(path, b"N0" * (17 * 2**20) + b"N.")


def other_bytes(path: Path) -> None:
    archive(path, named(tensor(0, (4,), (1,))), {"model/byteorder": b"big", **FOUR})


def moved_member(path: Path) -> None:
    archive(path, named(tensor(0, (4,), (1,))), FOUR)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 42 : entry + 46] = struct.pack("<I", 7)
    path.write_bytes(content)


def no_pickle(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model/data/0", b"\0" * 16)


def paths_outside(path: Path) -> None:
    archive(path, named(tensor(0, (4,), (1,))), {"../../evil": b"x", "/etc/evil": b"x", **FOUR})


ARCHIVES: dict[str, tuple[Callable[[Path], None], str]] = {
    "zip bomb": (bomb, "unpacks to 20000002 bytes"),
    "a compressed storage": (compressed_storage, "compressed or encrypted"),
    "no pickle": (no_pickle, "0 pickled objects"),
    "two pickles": (two_pickles, "2 pickled objects"),
    "a large pickle": (large_pickle, "a pickle of more than"),
    "another order of bytes": (other_bytes, "order of bytes"),
    "a member that is elsewhere": (moved_member, "members overlap"),
    "paths out of the archive": (paths_outside, "expected a head"),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_odd_archives_write_nothing_outside(tmp_path: Path, kind: str) -> None:
    make, reason = ARCHIVES[kind]
    path = tmp_path / "deep" / "er" / "model.pt"
    path.parent.mkdir(parents=True)
    make(path)
    printed = harmless(path, tmp_path / "marker")
    assert reason in printed
    assert [found.name for found in tmp_path.rglob("*") if found.is_file()] == ["model.pt"]


def test_oversized_headers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\xff" * 8 + b"{}")
    assert "the header declares" in harmless(path, tmp_path / "marker")


def test_control_characters_are_not_printed(tmp_path: Path) -> None:
    head = text(b"weight") + tensor(0, (2, 2), (2, 1))
    pickled = b"c__main__\n\x1b[2J\n)\x81}" + text(b"_parameters") + b"}" + head + b"ssb."
    path = archive(tmp_path / "model.pt", pickled, {"model/data/0": struct.pack("<4f", 1, 0, 0, 1)})
    printed = harmless(path, tmp_path / "marker")
    assert "\x1b" not in printed and "?[2J" in printed


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("seed", range(30))
def test_damaged_models_give_our_errors_or_tensors(tmp_path: Path, seed: int, zipped: bool) -> None:
    random = torch.Generator().manual_seed(seed)
    path = tmp_path / "model.pt"
    torch.save(
        torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)), path, _use_new_zipfile_serialization=zipped
    )
    content = bytearray(path.read_bytes())
    for position in torch.randint(0, len(content), (4,), generator=random).tolist():
        content[position] ^= 1 + position % 255
    path.write_bytes(content)
    try:
        tensors = open_pickled_module(path).tensors
    except (CorruptCheckpoint, UnsafeCheckpoint, CheckpointError):
        return
    for found in tensors.values():
        assert found.nbytes <= len(content)
