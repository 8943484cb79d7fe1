"""Models that are more than one file: folders as transformers and its Trainer write them, and sharded checkpoints.

A large model is saved as shards, weight files with a part of the tensors each, and an index beside them that says in
which one every tensor is. It stands for the model: a folder is read through the one file in it that is named as a
model's weights or their index. What a training keeps besides, the state of optimizer and schedule and the arguments of
the program, is never opened.
"""

import re
from pathlib import Path, PurePosixPath

from merging.core.errors import CheckpointError, CorruptCheckpoint
from merging.core.files import MODEL_FILES
from merging.core.gate import parse_json, read_bytes
from merging.core.limits import MAX_INDEX_BYTES

INDEX = ".index.json"
_MODELS = tuple(name for one in MODEL_FILES for name in (one, one + INDEX))
_STATES = re.compile(
    r"(optimizer|scheduler|scaler|rng_state\w*|random_states\w*|training_args)\.(pt|pth|bin)"
    r"|.*(optim|model)_states\.pt",  # DeepSpeed's, of one process each
)
_ARGUMENTS = "training_args.bin"
_SHARD = re.compile(r"(?P<model>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.(safetensors|bin|pt|pth)")
MAX_SHARDS = 1000
SAFE_SUFFIX = ".safetensors"
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pth.tar")
_SUFFIX = re.compile(r"\.(?:safetensors|pt|pth|bin|ckpt|pth\.tar(?:-\d{1,9})?)$", re.IGNORECASE)


def weight_suffix(name: str) -> str:
    """How the name of a weight file ends; empty of any other file. Trainings call files of torch.save ``.pth.tar``.

    >>> weight_suffix("vit.safetensors"), weight_suffix("model.pth.tar-50"), weight_suffix("data.npz")
    ('.safetensors', '.pth.tar-50', '')
    """
    found = _SUFFIX.search(name)
    return found[0] if found else ""


def is_torch_file(path: Path) -> bool:
    """Whether a weight file is named as one of torch.save."""
    return weight_suffix(path.name).lower() not in ("", SAFE_SUFFIX)


def is_training_state(path: Path) -> bool:
    """Whether a file is named as what a training keeps beside its weights: never opened here.

    >>> is_training_state(Path("checkpoint-500/training_args.bin")), is_training_state(Path("pytorch_model.bin"))
    (True, False)
    """
    return bool(_STATES.fullmatch(path.name))


def is_index(path: Path) -> bool:
    """Whether a file is named as the index of a sharded checkpoint."""
    return path.name.endswith(INDEX)


def in_shards(path: Path) -> bool:
    """Whether a weight file is named as one of several shards."""
    found = _SHARD.fullmatch(path.name)
    return found is not None and int(found["total"]) > 1


def model_file(path: Path) -> Path:
    """The weight file, or the index of shards, that a path means: a file itself, a folder's only model.

    Raises:
        CheckpointError: the folder holds no model, or it can't be told which file is the model.
    """
    if not path.is_dir():
        _require_whole(path)
        return path
    try:
        entries = {entry.name: entry for entry in path.iterdir()}
    except OSError as error:
        raise CheckpointError(f"{path.name}: can't be read ({error.strerror}); check its permissions") from None
    named = [name for name in _MODELS if name in entries]
    if named:
        kind = named[0].removesuffix(INDEX)
        if {kind, kind + INDEX} <= {*named}:
            raise CheckpointError(
                f"{path.name}: holds {kind} and {kind}{INDEX}, a whole model and one in shards; name the one that is "
                "meant"
            )
        return entries[named[0]]
    for file in entries.values():
        _require_whole(file, path)
        if file.is_dir() and any(file.glob("*.distcp")):
            raise CheckpointError(_distributed(path.name))
    raise CheckpointError(
        f"{path.name or path.resolve().name}: no such weight file; it is a folder, in which none of "
        f"{', '.join(MODEL_FILES)} and no index of shards was found; name the weight file in it"
    )


def _require_whole(file: Path, folder: Path | None = None) -> None:
    """Refuse parts of a model that make none by themselves, with what to do."""
    name = folder.name if folder else file.name
    if file.suffix == ".distcp" or file.name == ".metadata":
        raise CheckpointError(_distributed(name))
    if folder is None and file.name == _ARGUMENTS:
        raise CheckpointError(f"{name}: the arguments of a training, a pickle of objects; never opened here")
    if file.name == "zero_to_fp32.py" or re.fullmatch(r".*(optim|model)_states\.pt", file.name):
        raise CheckpointError(
            f"{name}: DeepSpeed's own checkpoint, in parts of single processes; put it together first with its "
            "script zero_to_fp32.py"
        )
    if folder is None and in_shards(file):
        raise CheckpointError(
            f"{name}: one of several shards of a model; name the folder that it is in, or the index beside it "
            f"(….{INDEX.lstrip('.')})"
        )


def _distributed(name: str) -> str:
    return (
        f"{name}: a distributed checkpoint of torch (.distcp), in parts of single processes; put it together first: "
        "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER model.pt"
    )


def shards_of(index: Path) -> dict[Path, frozenset[str]]:
    """The shards that an index names, each with the tensors that are to be in it; sorted by name.

    Raises:
        CorruptCheckpoint: it is no index, or contradicts itself.
        CheckpointError: it can't be read, a shard is missing, or would lie outside of the index's folder.
    """
    found = named_shards(index)
    for file in found:
        if not (index.parent / file).is_file():
            raise CheckpointError(f"{index.name}: the shard {file[:120]!r} is missing; put it beside the index")
    return {index.parent / file: names for file, names in found.items()}


def named_shards(index: Path) -> dict[str, frozenset[str]]:
    """As :func:`shards_of`, by their paths from the index's folder, whether they are there or not."""
    if not index.is_file():
        raise CheckpointError(f"{index.name}: no such index of shards")
    try:
        content = parse_json(read_bytes(index, CorruptCheckpoint, MAX_INDEX_BYTES))
    except ValueError as error:
        raise CorruptCheckpoint(f"{index.name}: not valid JSON: {error}; download or export it again") from None
    wanted = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(wanted, dict) or not wanted or not all(isinstance(file, str) for file in wanted.values()):
        raise CorruptCheckpoint(f"{index.name}: no index of shards; expected a weight_map, tensor → file")
    tensors: dict[str, set[str]] = {}
    for tensor, file in wanted.items():
        tensors.setdefault(file, set()).add(tensor)
    if len(tensors) > MAX_SHARDS:
        raise CorruptCheckpoint(f"{index.name}: {len(tensors)} shards; at most {MAX_SHARDS} are read")
    for file in tensors:
        _require_beside(index, file)
    return {file: frozenset(names) for file, names in sorted(tensors.items())}


def _require_beside(index: Path, file: str) -> None:
    parts = PurePosixPath(file).parts
    if not parts or parts[0] == "/" or ".." in parts or "\\" in file or "\0" in file or len(file) > 300:
        raise CheckpointError(
            f"{index.name}: the shard {file[:80]!r} would lie outside of the index's folder; shards must lie beside it"
        )


def is_complete(path: Path) -> bool:
    """Whether a weight file is there, and of an index all its shards."""
    try:
        return all(file.is_file() for file in weight_files(path))
    except CheckpointError:
        return False


def weight_files(path: Path) -> tuple[Path, ...]:
    """All files that a model's weights are in, the one that stands for it first.

    Raises:
        CheckpointError: as :func:`shards_of`.
    """
    return (path, *shards_of(path)) if is_index(path) else (path,)
