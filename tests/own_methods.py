"""Files of methods as somebody may have them beside the package."""

from pathlib import Path

from merging.methods import own

HEAD = """
import torch
from pydantic import Field
from merging.methods.context import Context
from merging.methods.looks import Look
from merging.methods.params import Params
from merging.methods.planned import TensorMerge
from merging.methods.registry import Published, edit, merge
from merging.weights.vectors import TaskVectors

class SomeParams(Params):
    much: float = Field(0.5, ge=0, le=1, description="How much.")
"""
METHOD = """
@merge("{name}", title="{title}"{more})
def {name}(vectors: TaskVectors, params: SomeParams, context: Context) -> TensorMerge:
    \"\"\"Add the sum.\"\"\"
    return TensorMerge(lambda name, base, stack: base + {factor} * params.much * stack.sum(dim=0))
"""


def method(name: str = "mine", title: str = "Mine", factor: float = 1.0, more: str = "") -> str:
    return METHOD.format(name=name, title=title, factor=factor, more=more)


def write(folder: Path, name: str, *parts: str) -> Path:
    path = folder / name
    path.write_text(HEAD + "".join(parts), encoding="utf-8")
    own.refresh()
    return path
