"""Files made to hang a reader, to fill the memory, or to end it in a traceback: each kind is refused in a sentence."""

import io
import os
import pickle
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from merging.core import limits
from merging.core.errors import MergingError
from tests.security.readers import READERS, npz_bytes, parquet_bytes, png, recipe_text, suite_text, torch_bytes, write

Maker = Callable[[], bytes]


@pytest.mark.parametrize("kind", READERS)
def test_sound_files_are_read(kind: str, tmp_path: Path) -> None:
    READERS[kind].read(write(kind, tmp_path, READERS[kind].sound()))


# --- what is no file --------------------------------------------------------------------------------------------------


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(path.parent, os.O_RDONLY)  # an address has room for a hundred letters
        made.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path),
    "a socket": _socket,
}


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="pipes and devices as files are of Unix")
@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_file_is_refused_and_not_waited_for(kind: str, special: str, tmp_path: Path) -> None:
    path = write(kind, tmp_path, None)
    SPECIAL[special](path)
    if kind == "image":  # in a folder of images it is left out, as other things that are no images
        READERS[kind].read(path)
        return
    with pytest.raises(MergingError) as caught:
        READERS[kind].read(path)
    assert str(tmp_path) not in str(caught.value)
    if special == "a pipe":
        assert "is a pipe; expected a file" in str(caught.value)


# --- YAML -------------------------------------------------------------------------------------------------------------


def _doubling(line: str, times: int) -> str:
    return "a0: &a0 {k: 1}\n" + "".join(line.format(n + 1, n) for n in range(times))


YAML = {
    "merge keys that double": (_doubling("a{0}: &a{0} {{<<: [*a{1}, *a{1}]}}\n", 40), "unfolds to more than"),
    "aliases that double": (_doubling("a{0}: &a{0} [*a{1}, *a{1}]\n", 40), "unfolds to more than"),
    "an alias of itself": ("a: &a [*a]", "line 1: holds itself"),
    "a merge key of itself": ("a: &a\n  <<: *a", "holds itself"),
    "brackets": ("a: " + "[" * 60_000, "nested|nesting"),
    "deep blocks": ("".join(" " * n + "a:\n" for n in range(200)), "nested more than 50 deep"),
    "dashes": ("- " * 5000, "nest"),
    "a date": ("a: 2024-01-01", "line 1: read as a date (2024-01-01)"),
    "a date that is none": ("a: 2024-99-99", "line 1: read as a date (2024-99-99)"),
    "binary data": ("a: !!binary '*'", "line 1: read as binary data"),
    "a set": ("a: !!set {b}", "line 1: read as a set"),
    "a whole number without end": ("a: " + "9" * 5000, "line 1: a whole number of 5000 digits"),
    "a number on base 60": ("a: 1:30", "line 1: '1:30' is read as another number in YAML"),
    "a number on base 8": ("a: 010", "line 1: '010' is read as another number in YAML"),
    "no whole number": ("a: !!int x", "line 1: 'x' is read as another number"),
    "no number": ("a: !!float x", "line 1: 'x' is no number"),
    "neither true nor false": ("a: !!bool x", "line 1: 'x' is neither true nor false"),
    "an object of Python": (
        "a: !!python/name:os.system",
        "text that begins with ! is taken for a type, and none is taken here",
    ),
    "a list as a name": ("? [a]\n: 1", "a list or a mapping can't be a name"),
    "a name twice": ("name: a\nb: 1\nname: c", "line 3: 'name' stands on line 1 already"),
    "a NUL": ('a: "b\\0c"', "line 1: holds the control character '\\x00'"),
    "a letter that turns the line": ('a: "\\u202Ea"', "holds the control character"),
    "two documents": ("---\na: 1\n---\nb: 1", "line 3, column 1: a second document begins here"),
    "Latin-1": (b"a: caf\xe9", "not UTF-8 text (byte 6 is 0xe9)"),
    "UTF-16": ("a: 1".encode("utf-16"), "not UTF-8 text"),
}


@pytest.mark.parametrize("kind", ["suite", "sweep", "recipe"])
@pytest.mark.parametrize("name", YAML)
def test_hostile_yaml_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    content, sentence = YAML[name]
    path = write(kind, tmp_path, content if isinstance(content, bytes) else content.encode())
    with pytest.raises(MergingError) as caught:
        READERS[kind].read(path)
    said = str(caught.value)
    assert said.startswith(f"{path.name}: ") and len(said) < 600
    assert any(part in said for part in sentence.split("|"))


def test_more_values_than_anybody_needs_are_refused(tmp_path: Path) -> None:
    path = write("suite", tmp_path, b"a: [" + b"1," * limits.MAX_YAML_VALUES + b"]")
    with pytest.raises(MergingError, match="more than 250000 values"):
        READERS["suite"].read(path)


@pytest.mark.parametrize(
    ("kind", "bytes_"),
    [
        ("suite", limits.MAX_SUITE_BYTES),
        ("sweep", limits.MAX_SWEEP_BYTES),
        ("recipe", limits.MAX_RECIPE_BYTES),
        ("json", limits.MAX_JSON_BYTES),
    ],
)
def test_a_text_that_is_too_large_is_not_read(kind: str, bytes_: int, tmp_path: Path) -> None:
    path = write(kind, tmp_path, b"")
    os.truncate(path, bytes_ + 1)
    with pytest.raises(MergingError, match=f"{bytes_ + 1} bytes; at most {bytes_} are read"):
        READERS[kind].read(path)


# --- what a suite says ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("name: s", "name: s\ntemplates: ['a {} {0.__class__}']", "must hold {} exactly once, and no other brace"),
        ("name: s", "name: s\ntemplates: ['{0[0]} {}']", "no other brace"),
        ("name: s", "name: s\ntemplates: ['{} {!r:>9999999999}']", "no other brace"),
        ("name: s", "name: s\ntmplates: ['{}']", "tmplates: unknown name (did you mean 'templates'?)"),
        ("name: t", "name: t\n  chekpoint: a", "tasks.0.chekpoint (task 't'): unknown name (did you mean 'checkpoint'"),
        ("path: images.npz", "pth: images.npz", "pth (task 't'): unknown name (did you mean 'path'?)"),
        ("layers: 2", "layers: 2\n    widht: 3", "vision_cfg.widht: unknown name (did you mean 'width'"),
        ("width: 32", "width: 1000000000", "vision_cfg.width = 1000000000: must be at most 1048576"),
        ("width: 32", "width: '32'", "vision_cfg.width = '32': must be a whole number"),
        ("layers: 2", "layers: 1000000000", "must be at most 1000"),
    ],
)
def test_what_a_suite_says_is_judged(old: str, new: str, sentence: str, tmp_path: Path) -> None:
    text = suite_text({"kind": "arrays", "path": "images.npz"})
    assert old in text
    path = write("suite", tmp_path, text.replace(old, new, 1).encode())
    with pytest.raises(MergingError) as caught:
        READERS["suite"].read(path)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("- - 0.5", "- - abc", "must be a number"),
        ("- - 0.5", "- - '0.5'", "must be a number"),
        ("- - 0.5", "- - true", "must be a number"),
        ("  - - 0.5", "    a: 1", "must be a list"),
        ("label: Task Arithmetic", "lable: x", "lable: unknown name (did you mean 'label'?)"),
        ("sha256: '2", "sah256: '2", "weights.sah256: unknown name (did you mean 'sha256'?)"),
    ],
)
def test_tables_of_a_recipe_are_judged(old: str, new: str, sentence: str, tmp_path: Path) -> None:
    assert old in recipe_text()
    path = write("recipe", tmp_path, recipe_text().replace(old, new, 1).encode())
    with pytest.raises(MergingError) as caught:
        READERS["recipe"].read(path)
    assert sentence in str(caught.value)


# --- JSON and safetensors ---------------------------------------------------------------------------------------------

JSON = {
    "infinity": (b'{"a": Infinity}', "Infinity is no number in JSON"),
    "a name twice": (b'{"a": 1, "a": 2}', "'a' stands there twice"),
    "brackets": (b"[" * 100_000, "nested too deeply"),
    "a huge number": (b"9" * 5000, "not valid JSON"),
    "Latin-1": (b'"\xe9"', "not UTF-8 text"),
}


@pytest.mark.parametrize("name", JSON)
def test_hostile_json_is_refused(name: str, tmp_path: Path) -> None:
    content, sentence = JSON[name]
    with pytest.raises(MergingError, match=sentence):
        READERS["json"].read(write("json", tmp_path, content))


def _tensor(offsets: str = "[0,8]", shape: str = "[2]", dtype: str = '"F32"') -> bytes:
    return f'{{"a":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}'.encode()


HEADERS: dict[str, tuple[bytes, str]] = {
    "infinite offsets": (_tensor("[0,Infinity]"), "Infinity is no number"),
    "offsets beyond all numbers": (_tensor("[0,1e999]"), "not negative"),
    "offsets as text": (_tensor('["0","8"]'), "not negative"),
    "negative offsets": (_tensor("[-8,0]"), "not negative"),
    "a size of infinity": (_tensor(shape="[1e999]"), "not negative"),
    "sizes as text": (_tensor(shape='"ab"'), "not negative"),
    "a million dimensions": (_tensor(shape="[" + "1," * 1000 + "1]"), "not negative"),
    "a size beyond the file": (_tensor(shape=f"[{2**62},{2**62}]"), "is not its size"),
    "a dtype that is a list": (_tensor(dtype='["F32"]'), "unsupported dtypes"),
    "a name twice": (_tensor()[:-1] + b"," + _tensor()[1:], "'a' stands there twice"),
    "a name without end": (_tensor().replace(b'"a"', b'"' + b"a" * 2000 + b'"'), "has 2000 letters"),
    "lists in place of tensors": (b"[" + b"[]," * 1_000_000 + b"[]]", "more than 2000000 values"),
    "tensors without end": (b"{" + b'"a":{},' * 110_000 + b'"a":{}}', "more than 100000 tensors"),
    "Latin-1": ('{"é":1}'.encode("latin-1"), "not that of a safetensors file"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_headers_are_refused(name: str, tmp_path: Path) -> None:
    header, sentence = HEADERS[name]
    content = struct.pack("<Q", len(header)) + header + b"\0" * 8
    with pytest.raises(MergingError) as caught:
        READERS["safetensors"].read(write("safetensors", tmp_path, content))
    assert sentence in str(caught.value) and len(str(caught.value)) < 600


# --- pickles and archives ---------------------------------------------------------------------------------------------


def _archive(pickled: bytes, compression: int = zipfile.ZIP_STORED, more: tuple[tuple[str, bytes], ...] = ()) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in (("m/data.pkl", pickled), ("m/version", b"3\n"), *more):
            archive.writestr(name, content)
    return file.getvalue()


def _two_directories() -> bytes:
    return torch_bytes({"a": torch.zeros(2)}) + torch_bytes({"b": torch.ones(3)})


def _other_name_in_front() -> bytes:
    content = bytearray(_archive(b"\x80\x02}."))
    content[content.find(b"m/version")] = ord("n")
    return bytes(content)


def _encrypted() -> bytes:
    content = bytearray(_archive(b"\x80\x02}."))
    content[content.find(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def _overlapping() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02}.")
        archive.writestr("m/data/0", b"\0" * 100)
        for number in range(1, 50):
            member = zipfile.ZipInfo(f"m/data/{number}")
            member.header_offset = archive.filelist[-1].header_offset
            member.file_size = member.compress_size = 100
            member.CRC = 0
            archive.filelist.append(member)
    return file.getvalue()


_MANY = b"\x80\x02" + b"N0" * (limits.MAX_PICKLE_OPERATIONS // 2 + 1) + b"N."
PICKLES: dict[str, tuple[Maker, str]] = {
    "a million instructions": (lambda: _archive(_MANY), "more than 1000000 instructions"),
    "tuples in tuples": (lambda: _archive(b"\x80\x02}N" + b"\x85" * 100_000 + b"Ns."), "tuples in tuples|no tensors"),
    "tuples that double": (lambda: _archive(b"\x80\x02}N" + b"2\x86" * 40 + b"Ns."), "tuples in tuples|no tensors"),
    "two archives in one": (_two_directories, "directory is not exactly at its end"),
    "another name in front": (_other_name_in_front, "not a whole zip archive"),
    "encrypted for one reader": (_encrypted, "not a whole zip archive"),
    "members that overlap": (_overlapping, "members overlap"),
    "a bomb": (lambda: _archive(b"\0" * 10**7, zipfile.ZIP_DEFLATED), "unpacks to"),
    "bytes behind": (lambda: _archive(b"\x80\x02}.") + b"\0", "directory is not exactly at its end"),
    "bytes in front": (lambda: b"\0" + _archive(b"\x80\x02}."), "directory is not exactly at its end"),
    "an unknown way of packing": (
        lambda: _archive(b"\x80\x02}.").replace(b"\0\0\0\0\0\0!\0", b"\0\0\x63\0\0\0!\0"),
        "model.pt",
    ),
    "a number without end": (lambda: b"I" + b"9" * 10_000 + b"\n.", "model.pt"),
    "a text without end": (lambda: b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7fa.", "model.pt"),
    "an empty stack": (lambda: b"\x80\x020.", "model.pt"),
}


@pytest.mark.filterwarnings("ignore::UserWarning:zipfile")
@pytest.mark.parametrize("kind", ["torch", "pickled model"])
@pytest.mark.parametrize("name", PICKLES)
def test_hostile_pickles_are_refused(kind: str, name: str, tmp_path: Path) -> None:
    make, sentence = PICKLES[name]
    with pytest.raises(MergingError) as caught:
        READERS[kind].read(write(kind, tmp_path, make()))
    assert any(part in str(caught.value) for part in sentence.split("|")), caught.value


# --- images -----------------------------------------------------------------------------------------------------------


def _npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    sound = {"test_images": np.zeros((2, 8, 8, 3), np.uint8), "test_labels": np.array([0, 1])}
    np.savez_compressed(file, **{**sound, **arrays})
    return file.getvalue()


def _npy(header: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header.encode() + body


def _members(images: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("test_images.npy", images)
        archive.writestr("test_labels.npy", b"")
    return file.getvalue()


def _declared(shape: str, descr: str = "|u1") -> bytes:
    return _members(_npy(f"{{'descr':'{descr}','fortran_order':False,'shape':{shape}}}\n"))


def _bomb() -> bytes:
    content = bytearray(_members(b"\0" * 1000))
    place = content.find(b"PK\x01\x02") + 24
    content[place : place + 4] = struct.pack("<I", limits.MAX_SMALL_BYTES + 1)
    return bytes(content)


ARRAYS: dict[str, tuple[Maker, str]] = {
    "objects": (lambda: _npz(test_images=np.array([None, {}], object)), "not a readable .npz file"),
    "no height": (lambda: _npz(test_images=np.zeros((2, 0, 8, 3), np.uint8)), "images are uint8 [2, 0, 8, 3]"),
    "no images": (
        lambda: _npz(test_images=np.zeros((0, 8, 8, 3), np.uint8), test_labels=np.zeros(0, int)),
        "no images",
    ),
    "labels that are text": (lambda: _npz(test_labels=np.array(["a", "b"])), "labels are"),
    "labels beyond all classes": (lambda: _npz(test_labels=np.array([0, 2**64 - 1], np.uint64)), "labels run from"),
    "more numbers than there are": (lambda: _declared("(10000000000,8,8,3)"), "not a readable .npz file"),
    "a negative size": (lambda: _declared("(-1,8,8,3)"), "not a readable .npz file"),
    "items of 2 GB": (lambda: _declared("(4,)", "|S2147483647"), "not a readable .npz file"),
    "a header of brackets": (lambda: _members(_npy("(" * 9000)), "not a readable .npz file"),
    "a bomb": (_bomb, "no images do that"),
    "bytes behind": (lambda: npz_bytes() + b"\0", "directory is not exactly at its end"),
    "no archive": (lambda: pickle.dumps([1]), "directory is not exactly at its end"),
}
_IMAGE = "megapixels, more than the 89 that are decoded here"
IMAGES: dict[str, tuple[Maker, str]] = {
    "169 megapixels": (lambda: png(13000, 13000, rows=1), _IMAGE),
    "a line of 40 million": (lambda: png(40_000_000, 1, rows=0), "so long that it would be too large"),
    "no size": (lambda: png(0, 0), "image"),
    "the largest size": (lambda: png(2**31 - 1, 2**31 - 1, rows=0), "image"),
    "a program in PostScript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "image"),
    "nothing": (bytes, "image"),
}


def _one_picture_for_all() -> bytes:
    file = io.BytesIO()
    rows = pa.array([0] * 1000, pa.int64())
    pictures = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array([b"\0" * 5_000_000]))
    parquet.write_table(pa.table({"image": pictures, "label": rows}), file, compression="zstd")
    return file.getvalue()


def _rows_without_end() -> bytes:
    file = io.BytesIO()
    count = limits.MAX_IMAGES + 1
    rows = pa.table({"image": pa.nulls(count, pa.binary()), "label": pa.nulls(count, pa.int8())})
    parquet.write_table(rows, file)
    return file.getvalue()


ROWS: dict[str, tuple[Maker, str]] = {
    "169 megapixels": (lambda: parquet_bytes([png(13000, 13000, rows=1), png(8, 8)]), _IMAGE),
    "one picture of 5 MB for a thousand rows": (_one_picture_for_all, "not a readable image"),
    "rows without end": (_rows_without_end, f"at most {limits.MAX_IMAGES} images"),
    "no picture": (lambda: parquet_bytes([None, png(8, 8)]), "no bytes of an image"),
    "a class that is a list": (lambda: parquet_bytes(labels=pa.array([[0], [1]])), "column 'label' is list"),
    "a class that is text": (lambda: parquet_bytes(labels=pa.array(["a", "b"])), "column 'label' is string"),
    "no class": (lambda: parquet_bytes(labels=pa.array([None, 1])), "column 'label' is"),
    "nothing": (lambda: b"PAR1" + b"\xff\xff\xff\x7fPAR1", "not readable parquet files"),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, cases in (("arrays", ARRAYS), ("image", IMAGES), ("parquet", ROWS)) for name in cases],
)
def test_hostile_images_are_refused(kind: str, name: str, tmp_path: Path) -> None:
    make, sentence = {"arrays": ARRAYS, "image": IMAGES, "parquet": ROWS}[kind][name]
    with pytest.raises(MergingError) as caught:
        READERS[kind].read(write(kind, tmp_path, make()))
    assert sentence in str(caught.value) and len(str(caught.value)) < 600


def test_a_file_with_a_name_in_latin_1_is_named(tmp_path: Path) -> None:
    path = write("image", tmp_path, READERS["image"].sound())
    broken = path.with_name(os.fsdecode(b"caf\xe9.png"))
    broken.write_bytes(b"")
    with pytest.raises(MergingError, match="not a readable image"):
        READERS["image"].read(path)
