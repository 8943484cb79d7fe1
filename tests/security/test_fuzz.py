"""Every reader on damaged and on odd files: it gives what it read, or one of this package's errors, and nothing else.

`make test` tries a few examples of each, always the same; `make fuzz` thousands of new ones, within limits of
memory and time.
"""

import io
import json
import pickletools
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from merging.core.errors import MergingError
from tests.security.readers import READERS, npz_bytes, recipe_text, suite_text, torch_bytes, write

SOUND = {kind: reader.sound() for kind, reader in READERS.items()}


def tried(kind: str, content: bytes) -> None:
    """Let a reader see a file. An error must be one of ours, of bearable length, without folders of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(kind, Path(folder), content)
        try:
            READERS[kind].read(path)
        except MergingError as error:
            said = str(error)
            assert said and len(said) < 2000
            assert folder not in said


# --- damage -----------------------------------------------------------------------------------------------------------

PLACES = st.floats(0, 1)
INSERTED = st.binary(max_size=8) | st.sampled_from(
    [b"\0" * 64, b"\xff" * 8, b"[" * 100, b"{" * 100, b"PK\x01\x02", b"(" * 50]
)


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """A sound file with bytes changed, put in, taken out, or repeated."""
    content = bytearray(sound)
    for _ in range(draw(st.integers(1, 4))):
        place = int(draw(PLACES) * len(content))
        match draw(st.sampled_from(["change", "insert", "cut", "drop", "repeat"])):
            case "change":
                content[place : place + 4] = draw(st.binary(min_size=1, max_size=4))
            case "insert":
                content[place:place] = draw(INSERTED)
            case "cut":
                del content[place:]
            case "drop":
                del content[place : place + draw(st.integers(1, 40))]
            case "repeat":
                content += content[place : place + 200]
    return bytes(content)


@pytest.mark.parametrize("kind", READERS)
def test_damaged_files_are_read_or_refused(kind: str) -> None:
    @given(damaged(SOUND[kind]))
    def every(content: bytes) -> None:
        tried(kind, content)

    every()


# --- sound form, odd content ------------------------------------------------------------------------------------------

ODD = st.sampled_from(
    [None, True, 0, -1, 1.5, 2**31, 2**62, 10**30, float("inf"), float("nan"), "", "a", "0.5", "{}", "{0.a}", "auto",
     "../..", "/etc", "https://a.b", "\u00e9", "x" * 200, [], [[]], {}, [None], ["a", "a"], {"a": {"b": []}}, [1, 2]]
)  # fmt: skip


@st.composite
def odd(draw: st.DrawFn, document: Any) -> Any:
    """A document with one value replaced, one name changed, or one entry gone."""
    if isinstance(document, dict) and document and draw(st.integers(0, 5)):
        name = draw(st.sampled_from(sorted(document)))
        changed = dict(document)
        match draw(st.integers(0, 4)):
            case 0:
                del changed[name]
            case 1:
                changed[f"{name}x"] = changed.pop(name)
            case _:
                changed[name] = draw(odd(document[name]))
        return changed
    if isinstance(document, list) and document and draw(st.integers(0, 5)):
        place = draw(st.integers(0, len(document) - 1))
        return [*document[:place], draw(odd(document[place])), *document[place + 1 :] * draw(st.integers(0, 2))]
    return draw(ODD)


TEXTS = {
    "suite": suite_text({"kind": "arrays", "path": "images.npz"}),
    "sweep": SOUND["sweep"].decode(),
    "recipe": recipe_text(),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_odd_descriptions_are_read_or_refused(kind: str) -> None:
    @given(odd(yaml.safe_load(TEXTS[kind])))
    def every(document: Any) -> None:
        tried(kind, yaml.safe_dump(document, allow_unicode=True).encode())

    every()


WORDS = (
    r"""a name [ ] { } , &x *x ? !!int !!binary !!set ' " \0 1:30 010 0x1f 2024-01-01 .inf ~ --- ... %YAML | > # é ="""
)
YAML_PARTS = st.sampled_from([*WORDS.split(), ": ", "- ", "\n", "  ", "\t", "<<: "])


@given(st.lists(YAML_PARTS, max_size=30).map("".join))
def test_any_yaml_is_read_or_refused(text: str) -> None:
    tried("recipe", text.encode())


@given(
    odd({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {"a": "b"}}), st.integers(0, 16)
)
def test_odd_headers_are_read_or_refused(header: Any, size: int) -> None:
    text = json.dumps(header).encode()
    tried("safetensors", struct.pack("<Q", len(text)) + text + b"\0" * size)


OPCODES = st.sampled_from(pickletools.opcodes).map(lambda one: one.code.encode("latin-1"))
GLOBALS = (b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n")
BYTES = (b"", b"\0", b"\1", b"\x05", b"\xff" * 4, b"\2\0\0\0ab", b"X\1\0\0\0a", b"K\2", b"5\n", b"a\n", b"\x8a\1\1")
ARGUMENTS = st.sampled_from([*GLOBALS, *BYTES])


@pytest.mark.parametrize("kind", ["torch", "pickled model"])
def test_any_pickle_is_read_or_refused(kind: str) -> None:
    @given(st.lists(OPCODES | ARGUMENTS, max_size=40).map(b"".join), st.booleans())
    def every(program: bytes, zipped: bool) -> None:
        pickled = b"\x80\x02" + program + b"."
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("m/data.pkl", pickled)
            archive.writestr("m/version", "3\n")
        tried(kind, file.getvalue() if zipped else pickled)

    every()


FIELDS = {b"PK\x01\x02": 46, b"PK\x03\x04": 30, b"PK\x05\x06": 22}  # the parts that an archive is described by


@pytest.mark.parametrize("kind", ["torch", "pickled model", "arrays"])
def test_archives_that_contradict_themselves_are_read_or_refused(kind: str) -> None:
    sound = npz_bytes() if kind == "arrays" else torch_bytes({})

    @given(st.sampled_from(sorted(FIELDS)), PLACES, st.binary(min_size=1, max_size=4), PLACES)
    def every(part: bytes, which: float, value: bytes, where: float) -> None:
        starts = [place for place in range(len(sound)) if sound.startswith(part, place)]
        start = starts[int(which * (len(starts) - 1))] + 4 + int(where * (FIELDS[part] - 5))
        tried(kind, sound[:start] + value + sound[start + len(value) :])

    every()


DIMENSIONS = st.lists(st.sampled_from([0, 1, 2, 8, 3, -1, 2**31, 2**62, True]), max_size=5)
TYPES = st.sampled_from(
    ["|u1", "<i8", ">i8", "<f4", "|O", "|S9", "<U4", "|V8", "<c16", "nonsense", "[('a','|u1')]", "|b1"]
)


@given(DIMENSIONS, TYPES, DIMENSIONS, TYPES, st.integers(0, 600))
def test_odd_arrays_are_read_or_refused(shape: Any, kind: str, labels: Any, label_kind: str, size: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, dimensions, descr in (("images", shape, kind), ("labels", labels, label_kind)):
            header = repr({"descr": descr, "fortran_order": False, "shape": tuple(dimensions)}).encode() + b"\n"
            body = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + b"\1" * size
            archive.writestr(f"test_{name}.npy", body)
    tried("arrays", file.getvalue())
