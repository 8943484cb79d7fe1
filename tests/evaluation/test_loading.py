"""How open_clip is loaded: without what nothing here uses, which is there all the same for whoever does."""

import subprocess
import sys
from pathlib import Path

import pytest

from merging.evaluation.clip import _Later

ROOT = Path(__file__).parents[2]
LOADED = """
import sys
from pathlib import Path

def loaded(*names):
    return {*names} & sys.modules.keys()

import merging.cli
assert not loaded("torch", "numpy", "pydantic")
import merging.core.guests, merging.core.owner  # what `merging serve` needs, which waits as long as the server runs
assert not loaded("torch", "numpy")
from merging.evaluation import clip
from merging.evaluation.evaluator import Evaluator
from merging.suites import Suite, load_suite
assert clip.load_open_clip().CLIP and Evaluator(load_suite(sys.argv[1])).tower

import torch
import merging.methods.registry
from merging.methods.adam import Adam
learned = torch.zeros(2)
learned.grad = torch.ones(2)
Adam(learned, 0.1).step()
few = loaded("transformers", "timm", "torch._dynamo", "torch._dynamo.utils", "sympy")
assert not few, few
import merging.sweeps.foreground, merging.runs.worker.serve
assert not loaded("optuna")  # which only searches need

asked = sys.modules["torchvision.ops.roi_align"].is_compile_supported  # by which torchvision detects objects
assert asked("cpu") is True and asked("mps") is False
assert "torch._dynamo" in sys.modules and sys.modules["torch._dynamo.utils"].is_compile_supported("cpu") is True
inline = {"embed_dim": 8, "vision_cfg": {"timm_model_name": "vit_tiny_patch16_224", "image_size": 224}}
fields = {"activation": None, "image_size": None, "heads": None, "folder": Path()}
tower = clip._build(Suite.model_construct(name="odd", architecture=inline, **fields), {}).visual
assert type(tower).__name__ == "TimmModel" and "timm" in sys.modules
"""


def test_nothing_is_loaded_by_those_who_do_not_need_it(suite_file: Path) -> None:
    """Commands, a server, towers, a worker, in a process of their own; then what only few towers need is there."""
    command = [sys.executable, "-c", LOADED, str(suite_file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
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
