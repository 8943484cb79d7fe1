"""Files that others wrote, whole pickled models among them, as the weight and head files of a suite."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from merging.core.errors import CheckpointError, MergingError
from merging.core.text import shortened
from merging.core.wording import differences
from merging.weights.files.adapters import adapter_in
from merging.weights.files.checkpoint import Checkpoint, TensorInfo, open_checkpoint
from merging.weights.files.folders import INDEX, is_torch_file, model_file, weight_suffix
from merging.weights.files.layouts import PROJECTION, defects
from merging.weights.files.other_kinds import other_kind
from merging.weights.files.pickled_modules import open_pickled_module
from merging.weights.files.torch_files import arrays_beside
from merging.weights.files.writing import WrittenLayout, save_tensors

_SMALLEST_SCALE = 7  # half of that with which trainings of CLIP begin
_ROWS_DIFFER = 0.01  # relative; float16 rounds norms by less, heads trained by themselves differ by far more


def of_one_norm(norms: torch.Tensor) -> bool:
    """Whether the rows of a head have one norm, given theirs ``[classes]``, as rows of heads built from text have."""
    scale = norms.mean()
    return bool(scale > 0) and bool(((norms - scale).abs() < _ROWS_DIFFER * scale).all())


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
        target = folder / path.relative_to(common).with_name(f"{_stem(path)}.safetensors")
        if target in found.values():
            raise CheckpointError(f"{file.name}: another file would be written to {target.name} too; convert it apart")
        itself = target.exists() and any(other.exists() and target.samefile(other) for other in files)
        if itself or Path(os.path.abspath(target)) in whole:
            raise CheckpointError(
                f"{file.name}: {target.name} in the output folder is one of the files to convert; choose another folder"
            )
        found[file] = target
    return found


def _stem(path: Path) -> str:
    """What a file's result is called: the file's name without what says its kind, a folder's whole name."""
    if path.is_dir():
        return path.name
    name = path.name.removesuffix(INDEX)
    suffix = weight_suffix(name)
    return name.removesuffix(suffix) if suffix else Path(name).stem


def convert(file: Path, target: Path, take: str | None = None) -> Converted:
    """Write the visual tower in a file, or the head, as ``.safetensors`` under open_clip's names; runs nothing in it.

    Hugging Face's ``CLIPVisionModel``, which ends before the projection, keeps its own names. A tower is written only
    if all of it is there, and is there only once it was read again and found the same.

    Errors that are the file's fault are in the result.

    Args:
        file: a weight file, the index of a sharded model, or a folder with a model.
        target: where the result goes.
        take: which of several towers, see :func:`merging.weights.files.open_checkpoint`.
    """
    try:
        if file.is_dir() and adapter_in(file) is not None:
            raise CheckpointError(
                f"{file.name}: a PEFT adapter, no whole model; it can be the checkpoint of a task in suite.yaml as it "
                "is, and init-suite finds it; nothing was written"
            )
        held, classes, tensors = _opened(model_file(file), take)
        if {"weight"} <= set(tensors) <= {"weight", "bias"}:
            detail, scale = _write_head(tensors, target)
            return Converted(str(file), str(target), "head", held, detail, (), classes, scale)
        _require_tower(file, tensors)
        # without a projection the layout says that this is no mistake: a suite adds the base's
        layout: WrittenLayout = "huggingface" if tensors.lacks_projection else "open_clip"
        _write_tower(tensors, target, layout)
        detail = tensors.summary + (", layout kept, as it holds no projection" if tensors.lacks_projection else "")
        return Converted(str(file), str(target), "model", held, detail, tensors.layout.dropped, classes)
    except MergingError as error:
        return Converted(str(file), None, None, "", str(error))


def _opened(file: Path, take: str | None) -> tuple[str, tuple[str, ...], Checkpoint]:
    """Class of the object in a file, what it would import, and its tensors."""
    if is_torch_file(file):
        module = open_pickled_module(file, take)
        return module.kind, module.classes, module.tensors
    return "tensors", (), open_checkpoint(file, take=take)


def _require_tower(file: Path, tensors: Checkpoint) -> None:
    """Insist on all tensors of a vision transformer, with numbers in them.

    Raises:
        CheckpointError: some are missing, are none of its own, or hold NaN or infinity; or it is another kind of model.
    """
    kind = other_kind(tensors.infos)
    if kind:
        raise CheckpointError(
            f"{file.name}: {kind}; only the vision transformers of CLIP are merged; nothing was written"
        )
    if tensors.layout.family == "unknown":
        held = shortened([repr(name[:99]) for name in tensors], 4)
        raise CheckpointError(f"{file.name}: no CLIP visual transformer and no head; it holds {held}")
    whole = sorted(name for name, info in tensors.infos.items() if not info.floating)
    if whole:
        raise CheckpointError(
            f"{tensors.path.name}: {whole[0]!r} holds {str(tensors.infos[whole[0]].dtype).removeprefix('torch.')}, no "
            "floating-point numbers; convert a checkpoint that is not quantised; nothing was written"
        )
    wrong = defects({name: info.shape for name, info in tensors.infos.items()})
    if wrong:
        raise CheckpointError(
            f"{tensors.path.name}: {tensors.layout.title} is no complete vision transformer of open_clip's: {wrong}"
            f"{arrays_beside(tensors.path)}; nothing was written"
        )
    if PROJECTION not in tensors.infos and not tensors.lacks_projection:
        raise CheckpointError(
            f"{tensors.path.name}: {tensors.layout.title} holds no projection {PROJECTION!r} [width, embed_dim], with "
            "which open_clip's towers end; save model.visual.state_dict() with it; nothing was written"
        )
    tensors.require_finite()


def _write_tower(tensors: Checkpoint, target: Path, layout: WrittenLayout) -> None:
    """Write a tower; the file appears once it was read again and holds the same.

    Raises:
        CheckpointError: it can't be written, or others would not find the tower in it.
    """
    unchecked = target.with_name(f".{target.stem}.{os.getpid()}.safetensors")
    try:
        save_tensors(unchecked, tensors.infos, tensors.items(), layout=layout)
        written = open_checkpoint(unchecked)
        wrong = differences(
            {
                "missing": tensors.keys() - written.keys(),
                "unexpected": written.keys() - tensors.keys(),
                "changed": {name for name in tensors.keys() & written.keys() if not _equal(tensors, written, name)},
            }
        )
        if wrong:
            raise CheckpointError(f"{tensors.path.name}: read again, the tower has {wrong}; nothing was written")
        os.replace(unchecked, target)
    except OSError as error:
        raise CheckpointError(f"{target.name}: can't be written ({error.strerror}); choose another folder") from None
    finally:
        with suppress(OSError):  # there may be no such folder
            unchecked.unlink(missing_ok=True)


def _equal(one: Checkpoint, other: Checkpoint, name: str) -> bool:
    """Whether a tensor is the same bit by bit, so that NaN is equal to itself."""
    first, second = one[name], other[name]
    if one.infos[name] != other.infos[name]:
        return False
    return torch.equal(first.reshape(-1).view(torch.uint8), second.reshape(-1).view(torch.uint8))


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
    tensors.require_finite()
    norms = weight.norm(dim=1)
    scale = float(norms.mean())
    if not of_one_norm(norms):
        raise CheckpointError(
            f"{name}: rows of the head have norms from {float(norms.min()):.3g} to {float(norms.max()):.3g}; a head of "
            "a suite has rows of one norm, exp(logit_scale), as those built from text have"
        )
    save_tensors(
        target, {"weight": TensorInfo(tuple(weight.shape), torch.float32)}, [("weight", weight / norms[:, None])]
    )
    known = " = exp(logit_scale)" if scale >= _SMALLEST_SCALE else ""  # norms of 1, or of a training of its own
    return f"{weight.shape[0]} classes × {weight.shape[1]}, rows divided by their norm {scale:.4g}{known}", scale
