"""How open_clip is loaded: without what nothing here uses, which is there all the same for whoever does."""

import subprocess
import sys
from pathlib import Path

import pytest

from merging.evaluation.clip import _Later

ROOT = Path(__file__).parents[2]
LOADED = """
import sys
import merging.cli
assert not {"torch", "numpy", "pydantic"} & sys.modules.keys()
import merging.core.guests, merging.core.owner  # what `merging serve` needs, which waits as long as the server runs
assert not {"torch", "numpy"} & sys.modules.keys()
from merging.evaluation.clip import load_open_clip
load_open_clip()
assert not {"transformers", "timm", "torch._dynamo"} & sys.modules.keys()
"""


def test_neither_commands_nor_towers_load_what_they_do_not_need() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("touch", ["called", "another name"])
def test_a_module_is_loaded_once_it_is_needed(touch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_module_of_a_test.py").write_text("other = 5\ndef add(one, two):\n    return one + two\n")
    monkeypatch.syspath_prepend(tmp_path)
    later = _Later("some_module_of_a_test", ("add",))
    monkeypatch.setitem(sys.modules, later.__name__, later)
    from some_module_of_a_test import add  # type: ignore[import-not-found]

    assert sys.modules[later.__name__] is later
    if touch == "called":
        assert add(2, two=3) == 5
    else:
        assert later.other == 5 and later.add(1, 1) == 2
    assert sys.modules[later.__name__].other == 5 and sys.modules[later.__name__] is not later
