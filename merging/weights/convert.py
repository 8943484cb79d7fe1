"""Files that others wrote, whole pickled models among them, as the weight and head files of a suite."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from merging.core.errors import CheckpointError, MergingError
from merging.weights.files.pickled_modules import open_pickled_module
from merging.weights.files.reading import TORCH_SUFFIXES, Checkpoint, TensorInfo, open_checkpoint
from merging.weights.files.writing import WrittenLayout, save_tensors

_ROWS_DIFFER = 0.01  # relative; float16 rounds norms by less, heads trained by themselves differ by far more


@dataclass(frozen=True)
class Converted:
    """What became of one file.

    Attributes:
        file: its name as given.
        output: the file written, as a path in the output folder; None if it could not be converted.
        kind: a model's visual tower, or a head.
        held: the class of the object in it.
        detail: what was written and what was left out; the error if nothing was.
        left_out: names of the tensors that were left out.
        classes: dotted names that the file would have imported; none was.
        scale: of a head, the factor that its rows were divided by: exp(logit_scale).
    """

    file: str
    output: str | None
    kind: Literal["model", "head"] | None
    held: str
    detail: str
    left_out: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    scale: float | None = None

    def as_json(self) -> dict[str, Any]:
        """All of it in JSON-ready values, with ``ok``."""
        return {"ok": self.output is not None, **asdict(self)}


def targets(files: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Where the result of every file goes: the tree below the folder that all have in common is kept.

    >>> [str(path) for path in targets([Path("m/zeroshot.pt"), Path("m/Cars/finetuned.pt")], Path("out")).values()]
    ['out/zeroshot.safetensors', 'out/Cars/finetuned.safetensors']

    Raises:
        CheckpointError: two files would have the same target, or a target is one of the files.
    """
    whole = [Path(os.path.abspath(file)) for file in files]
    common = os.path.commonpath([path.parent for path in whole])
    found: dict[Path, Path] = {}
    for file, path in zip(files, whole, strict=True):
        target = folder / path.relative_to(common).with_suffix(".safetensors")
        if target in found.values():
            raise CheckpointError(f"{file.name}: another file would be written to {target.name} too; convert it apart")
        itself = target.exists() and any(other.exists() and target.samefile(other) for other in files)
        if itself or Path(os.path.abspath(target)) in whole:
            raise CheckpointError(
                f"{file.name}: {target.name} in the output folder is one of the files to convert; choose another folder"
            )
        found[file] = target
    return found


def convert(file: Path, target: Path) -> Converted:
    """Write the visual tower in a file, or the head, as ``.safetensors`` under open_clip's names; runs nothing in it.

    Hugging Face's ``CLIPVisionModel``, which ends before the projection, keeps its own names.

    Errors that are the file's fault are in the result.
    """
    try:
        if file.suffix in TORCH_SUFFIXES:
            module = open_pickled_module(file)
            held, classes, tensors = module.kind, module.classes, module.tensors
        else:
            held, classes, tensors = "tensors", (), open_checkpoint(file)
        if {"weight"} <= set(tensors) <= {"weight", "bias"}:
            detail, scale = _write_head(tensors, target)
            return Converted(str(file), str(target), "head", held, detail, (), classes, scale)
        if tensors.layout.family == "unknown":
            raise CheckpointError(
                f"{file.name}: no CLIP visual transformer and no head; it holds {list(tensors)[:4]}, …"
            )
        # without a projection the layout says that this is no mistake: a suite adds the base's
        layout: WrittenLayout = "huggingface" if tensors.lacks_projection else "open_clip"
        save_tensors(target, tensors.infos, tensors.items(), layout=layout)
        detail = tensors.summary + (", layout kept, as it holds no projection" if tensors.lacks_projection else "")
        return Converted(str(file), str(target), "model", held, detail, tensors.layout.dropped, classes)
    except MergingError as error:
        return Converted(str(file), None, None, "", str(error))


def _write_head(tensors: Checkpoint, target: Path) -> tuple[str, float]:
    """Write a zero-shot head with rows of norm 1; gives what was done in words, and the norm that rows had.

    Raises:
        CheckpointError: it is no head of the kind that suites have.
    """
    name, weight = tensors.path.name, tensors["weight"].float()
    if weight.ndim != 2 or 0 in weight.shape:
        raise CheckpointError(f"{name}: 'weight' is {list(weight.shape)}; expected a head, [classes, embed_dim]")
    if "bias" in tensors and bool(tensors["bias"].any()):
        raise CheckpointError(f"{name}: the head has a bias that is not zero; heads of a suite have none")
    norms = weight.norm(dim=1)
    scale = float(norms.mean())
    if not scale > 0 or not bool(((norms - scale).abs() < _ROWS_DIFFER * scale).all()):
        raise CheckpointError(
            f"{name}: rows of the head have norms from {float(norms.min()):.3g} to {float(norms.max()):.3g}; a head of "
            "a suite has rows of one norm, exp(logit_scale), as those built from text have"
        )
    save_tensors(
        target, {"weight": TensorInfo(tuple(weight.shape), torch.float32)}, [("weight", weight / norms[:, None])]
    )
    return (
        f"{weight.shape[0]} classes × {weight.shape[1]}, rows divided by their norm {scale:.4g} = exp(logit_scale)",
        scale,
    )
