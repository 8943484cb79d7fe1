"""What downloads leave in the place of a file: named for what it is, whatever kind of file it was to be."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from merging.core.errors import CheckpointError, MergingError, SuiteError
from merging.core.gate import read_json
from merging.suites import load_suite
from merging.suites.images.arrays import array_source
from merging.suites.images.decoding import open_image
from merging.suites.images.hub import hub_source
from merging.weights.convert import convert
from merging.weights.files import open_checkpoint

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 1710671599\n" % 7
PAGE = b"\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
DENIED = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code></Error>'
SAID = {
    POINTER: "a pointer of Git LFS, a few lines of text that stand for the file; run `git lfs pull`",
    PAGE: "a web page or a server's answer (it begins with '<!DOCTYPE html>'), saved in the place of the file",
    DENIED: "a web page or a server's answer (it begins with '<?xml version=",
    b"Entry not found": "a server's answer, 'Entry not found', saved in the place of the file; download it again",
}


def converted(path: Path) -> None:
    found = convert(path, path.with_name("out.safetensors"))
    raise CheckpointError(found.detail)


READERS: dict[str, Callable[[Path], object]] = {
    "model.safetensors": open_checkpoint,
    "model.pt": open_checkpoint,
    "pytorch_model.bin": converted,
    "model.safetensors.index.json": open_checkpoint,
    "config.json": lambda path: read_json(path, SuiteError),
    "suite.yaml": load_suite,
    "data.npz": lambda path: array_source(path, "test"),
    "test-00000-of-00001.parquet": lambda path: hub_source(path.parent, "test", None, "image", "label"),
    "cat.png": lambda path: open_image(path, path.name, 8),
}


@pytest.mark.parametrize("content", SAID)
@pytest.mark.parametrize("name", READERS)
def test_what_is_not_the_file_itself_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    """Before: "the header declares 8532478853211321953 bytes", "torch can't read it (UnpicklingError)" and such."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MergingError, match=f"^{re.escape(name)}: {re.escape(SAID[content])}"):
        READERS[name](tmp_path / name)
