"""A file to begin a method of one's own with, and a test of it."""

from pathlib import Path

from merging.core.errors import SpecError
from merging.core.files import atomic_path, require_place
from merging.methods import registry
from merging.methods.contract import is_name
from merging.methods.registry import Kind

_MERGE = '''"""NAME: what it does, and where the idea comes from."""

import torch
from pydantic import Field

from merging.methods.context import Context
from merging.methods.params import Params
from merging.methods.planned import TensorMerge
from merging.methods.registry import merge
from merging.methods.scaling import Scaling, scaled
from merging.weights.vectors import TaskVectors


# Each parameter has a default, a description and bounds: forms, the command line and sweeps are made from them.
class CLASSParams(Params):
    """What can be set."""

    # λ, known by its type: `auto` chooses it on validation images, as the leaderboard always does.
    scaling: Scaling = Field(1.0, title="λ", description="How far to go, or auto: chosen on the validation split.")
    power: float = Field(1.0, ge=0, le=4, description="How much disagreement costs: 0 gives the plain sum.")


# `paper` is an address, if there is one. What the decorator takes besides: docs/own-methods.md.
@merge("NAME", title="TITLE")
def NAME(vectors: TaskVectors, params: CLASSParams, context: Context) -> TensorMerge:
    """Add the task vectors, each entry as far as the tasks agree on its sign."""

    # Called for every tensor: `base` is θ₀, `stack` the task vectors there, [tasks, *shape], both float32.
    def direction(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        total = stack.sum(dim=0)
        agreement = total.abs() / stack.abs().sum(dim=0).clamp(min=1e-12)  # 1 where all signs are equal
        return total * agreement**params.power

    return scaled(vectors, params.scaling, direction, context)  # θ₀ + λ · direction
'''

_EDIT = '''"""NAME: what it does, and where the idea comes from."""

import numpy as np
from pydantic import Field

from merging.methods.context import Context
from merging.methods.params import Params
from merging.methods.planned import LinearEdit
from merging.methods.registry import edit
from merging.weights.vectors import TaskVectors


# Each parameter has a default, a description and bounds: forms, the command line and sweeps are made from them.
class CLASSParams(Params):
    """What can be set."""

    share: float = Field(1.0, ge=0, le=1, description="0 leaves lengths as they are, 1 makes them equal.")


# `paper` is an address, if there is one. What the decorator takes besides: docs/own-methods.md.
@edit("NAME", title="TITLE")
def NAME(vectors: TaskVectors, params: CLASSParams, context: Context) -> LinearEdit:
    """Give the task vectors of every tensor the same length."""
    # Inner products of the task vectors, [tensors, tasks, tasks]. An edit that only mixes task vectors is a matrix
    # [tasks, tasks] for every tensor, so that What if has it, too; any other is a function, as TensorEdit.
    geometry = context.geometry(vectors)
    matrices = {}
    for name, gram in zip(geometry.names, geometry.grams, strict=True):
        lengths = np.sqrt(gram.diagonal())
        factors = np.divide(lengths.mean(), lengths, out=np.ones_like(lengths), where=lengths > 0)
        matrices[name] = np.diag(factors**params.share)
    return LinearEdit(matrices)
'''

_TEST = '''"""Run with: pytest test_NAME.py"""

from pathlib import Path

import pytest
import torch

from merging.methods import own
from merging.methods.context import Context
from merging.methods.pair import Pair
from merging.methods.plan import plan
from merging.methods.properties import Drawn, check, write_models


@pytest.fixture(autouse=True)
def _loaded(monkeypatch):
    monkeypatch.setenv("MERGING_METHODS", str(Path(__file__).with_name("NAME.py")))
    own.refresh()


def test_it_has_the_properties_of_every_method():
    assert [finding for finding in check("KIND", "NAME") if finding.fault] == []


def test_it_computes_what_it_should(tmp_path):
    taus = Drawn(tasks=3, kind="free", spread=0.1, seed=0).vectors()
    base = {name: torch.zeros_like(tensor) for name, tensor in taus[0].items()}
    vectors = write_models(tmp_path, base, taus)
    for name, merged in plan(vectors, Pair.read("PAIR"), Context()).tensors():
        first, second, third = (tau[name] for tau in taus)
        expected = EXPECTED
        torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-6)
'''

# With these the template does the simplest thing there is, so that its expected result is a sum; the test of one's own
# method says something else here.
_PAIRS = {
    "merge": "merge=NAME merge.power=0 merge.scaling=0.5",
    "edit": "edit=NAME edit.share=0 merge.scaling=0.5",
}


def write_template(kind: Kind, name: str, folder: Path) -> tuple[Path, Path]:
    """Write ``NAME.py`` and ``test_NAME.py``; both, or neither.

    Args:
        kind: edit or merge.
        name: what the command line will call it.
        folder: where; it must be there.

    Raises:
        SpecError: the name is none, there is a method of that name, or a file.
        CheckpointError: the folder is not there, or can't be written to.
    """
    if not is_name(name):
        raise SpecError(f"{name!r}: a name is made of small letters, digits and _, and begins with a letter")
    if name in registry.edits() or name in registry.merges():
        raise SpecError(f"there is a method {name!r} already; choose another name")
    files = folder / f"{name}.py", folder / f"test_{name}.py"
    for file in files:
        if file.exists():
            raise SpecError(f"{file.name}: is there already and is left as it is; choose another name or folder")
        require_place(file)
    title = name.replace("_", " ").capitalize()
    words = {
        "PAIR": _PAIRS[kind],
        "EXPECTED": "0.5 * (first + second + third)",
        "KIND": kind,
        "CLASS": "".join(part.capitalize() for part in name.split("_")),
        "TITLE": title,
        "NAME": name,
    }
    for file, text in zip(files, ({"merge": _MERGE, "edit": _EDIT}[kind], _TEST), strict=True):
        for word, value in words.items():
            text = text.replace(word, value)
        with atomic_path(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return files
