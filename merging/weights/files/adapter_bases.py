"""Whether an adapter was trained on the base that it is to be folded into, as far as names and files show it."""

import re
from contextlib import suppress
from pathlib import Path

import torch

from merging.core.errors import CheckpointError, MismatchedCheckpoint
from merging.core.gate import read_json
from merging.weights.files.checkpoint import POSITIONS, Checkpoint, open_checkpoint
from merging.weights.files.folders import model_file

CONFIG = "adapter_config.json"
_HUB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")
_CACHED = re.compile(r"models--[^-].*--.")


def require_same_base(named: str, base: Checkpoint, folder: Path) -> str:
    """Insist that an adapter was not trained on another base, as far as that can be seen.

    Both may be known by names of the Hugging Face hub; or what the configuration names lies beside the adapter or the
    base. Nothing that lies elsewhere is opened: who wrote the configuration is not known.

    Args:
        named: what the adapter's configuration calls its base.
        base: that of the suite.
        folder: the adapter's.

    Returns:
        What to call that, where nothing shows whether it is this base; else empty.

    Raises:
        MismatchedCheckpoint: it is another.
    """
    same = _is_there(named, base, folder) if named else None
    if same:
        return ""
    if same is False:
        raise MismatchedCheckpoint(
            f"trained on {named[-80:]!r} (base_model_name_or_path in {CONFIG}), which is here and holds other weights "
            f"than the base, {called(base.path)}; name it as the base in suite.yaml"
        )
    trained, here = _hub_part(named), _hub_name(base.path)
    if here and trained:
        if trained.lower() == here.lower():
            return ""
        raise MismatchedCheckpoint(
            f"trained on {trained} (base_model_name_or_path in {CONFIG}), but the base here is {here}; name that base "
            f"in suite.yaml, or, if both are the same weights, write {here} into {CONFIG}"
        )
    return "/".join(Path(named).parts[-2:])[:80]


def _is_there(named: str, base: Checkpoint, folder: Path) -> bool | None:
    """Whether what a configuration names is the base; None where it is not there, or nothing that can be read."""
    beside = [folder.resolve().parent, base.path.resolve().parent]
    for start in (folder, *beside, Path()):
        with suppress(OSError, ValueError, RuntimeError, CheckpointError):
            file = model_file((start / named).resolve())
            if not file.is_file():
                continue
            if file.samefile(base.path):
                return True
            if any(place in file.parents for place in beside if place != Path(place.anchor)):
                return _same_weights(open_checkpoint(file).completed(base), base)
    return None


def _same_weights(one: Checkpoint, base: Checkpoint) -> bool:
    """Whether two towers hold the same numbers in the base's precision; positions of another size are left out."""
    resized = {POSITIONS} if base.grid is not None else set()
    names = sorted(base.keys() - resized)
    return sorted(one.keys() - resized) == names and all(
        torch.equal(one[name].to(base.infos[name].dtype), base[name]) for name in names
    )


def called(path: Path) -> str:
    """What to call a weight file: as on the hub, or with its folder."""
    return _hub_name(path) or "/".join(path.parts[-2:])


def _hub_part(named: str) -> str:
    """The id of the Hugging Face hub in what a configuration calls its base: all of it, or a place in a hub's cache."""
    if _HUB_ID.fullmatch(named):
        return named
    return next((part.split("--", 1)[1].replace("--", "/", 1) for part in Path(named).parts if _CACHED.match(part)), "")


def _hub_name(path: Path) -> str:
    """The hub's name of a weight file: from its place in the hub's cache, or from ``config.json`` beside it."""
    at = next((i for i, part in reversed([*enumerate(path.parts)]) if part.startswith("models--")), None)
    if at is not None:
        of_a_suite = Path(*path.parts[: at + 3], "suite.yaml").is_file()  # a repository of many models
        return "" if of_a_suite else "/".join(path.parts[at].split("--", 2)[1:])
    file = path.with_name("config.json")
    try:
        said = read_json(file, CheckpointError)
    except CheckpointError:
        return ""
    name = said.get("_name_or_path") if isinstance(said, dict) else None
    return name if isinstance(name, str) and _HUB_ID.fullmatch(name) else ""
