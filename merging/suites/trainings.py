"""What a training leaves behind: checkpoints on its way, which of them was best, and what it started from.

transformers' Trainer writes a folder ``checkpoint-500`` every so many steps, each with the weights, the state of
optimizer and schedule, ``training_args.bin`` (a pickle, never opened) and ``trainer_state.json``, which names the best
one so far. The ``config.json`` that lies there names the model that training began with, if transformers wrote it
before its version 5. Other programs write ``epoch_3.pt``, ``best.pt`` or ``last.ckpt``.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from merging.core.errors import SuiteError
from merging.core.files import MODEL_FILES
from merging.core.gate import read_json
from merging.core.limits import MAX_INDEX_BYTES
from merging.core.text import shortened
from merging.hub.cache import HubFile, is_hub_id, located
from merging.suites.folder import Contents, is_generic, is_named_as_base, label, task_name
from merging.weights.files.folders import INDEX

_STEP = re.compile(r"(checkpoint|epoch|step|iter)[-_=]?\d+", re.IGNORECASE)
# cars_epoch9, cars_best, and Lightning's cars-epoch=3-step=100 and cars-epoch=03-val_loss=0.32
_NUMBERED = re.compile(
    rf"(?P<what>.*?[^\W_])([-_.]+({_STEP.pattern}|best|last|latest)([-_]((val|train|test)_)?[^\W_]+=\d+(\.\d+)?)*+)+",
    re.IGNORECASE,
)
_ON_THE_WAY = re.compile(
    rf"{_STEP.pattern}|(checkpoint|ckpt)\.|((model|checkpoint|epoch)[-_])?(best|last|latest|final)", re.IGNORECASE
)
# File → field in which a model's folder names what it was trained from
_ORIGINS = {"config.json": "_name_or_path", "adapter_config.json": "base_model_name_or_path"}


def one_a_task(folder: Path, found: Contents, base: Path, asked: Mapping[str, str]) -> tuple[Contents, dict[str, str]]:
    """Of several checkpoints of one training the one that is meant.

    That is the one asked for; else a model that lies beside those on its way; else the one that the Trainer says is
    the best.

    Args:
        folder: where all of it lies.
        found: what lies there.
        base: the pre-trained weights, which are of no training here.
        asked: task → the name of its checkpoint.

    Returns:
        The same with one weight file a training, the others among those passed over; and for each task whose
        checkpoint was chosen, why.

    Raises:
        SuiteError: nothing says which one is meant, or what is asked for is not there.
    """
    trainings = _trainings(found, base)
    tasks = {place: _task(folder, paths) for place, paths in trainings.items()}
    unknown = sorted(asked.keys() - {*tasks.values()})
    if unknown:
        raise SuiteError(
            f"{folder.name}: a checkpoint is given for {', '.join(unknown)}; tasks with checkpoints of a training are "
            f"{', '.join(sorted(tasks.values())) or 'none'}"
        )
    chosen, reasons = {}, {}
    for place, task in tasks.items():
        if len(trainings[place]) > 1 or task in asked:
            chosen[place], reasons[task] = _meant(folder, task, trainings[place], asked.get(task))
    passed = {
        path.as_posix(): f"another checkpoint of this training; {chosen[place].as_posix()} is taken"
        for place, paths in trainings.items()
        for path in paths
        if place in chosen and path != chosen[place]
    }
    weights = [path for path in found.weights if path.as_posix() not in passed]
    return replace(found, weights=weights, passed_over={**found.passed_over, **passed}), reasons


def several_of_one(folder: Path, found: Contents, base: Path | None = None) -> dict[str, list[str]]:
    """Task → what its checkpoints are called, in their order, of the trainings that left several.

    Arguments as of :func:`one_a_task`; without a base, files that are named as one are none of a training.
    """
    return {
        _task(folder, paths): [_called(path) for path in sorted(paths, key=_step)]
        for paths in _trainings(found, base).values()
        if len(paths) > 1
    }


def _trainings(found: Contents, base: Path | None) -> dict[Path, list[Path]]:
    """Folder of a training → its weight files."""
    trainings: dict[Path, list[Path]] = {}
    for path in found.weights:
        place = _training_of(path)
        if place is not None and path != base and not is_named_as_base(path):
            trainings.setdefault(place, []).append(path)
    for path in found.weights:  # the finished model of one whose checkpoints are called after it
        beside = trainings.get(path.parent / label(path), [path])
        beside += [] if path in beside else [path]
    return trainings


def _task(folder: Path, paths: list[Path]) -> str:
    return task_name(folder.resolve().name if is_generic(paths[0]) else label(paths[0]))


def _training_of(path: Path) -> Path | None:
    """The folder of the training that a weight file comes from, if its own name and place say that it is of one."""
    if _STEP.fullmatch(path.parent.name):
        own = Path(path.name)  # epoch_1/cars.pt and epoch_1/dogs.pt are of two
        return path.parent.parent / ("" if is_generic(own) or _ON_THE_WAY.match(path.name) else label(own))
    numbered = _NUMBERED.fullmatch(label(path))
    if numbered:  # cars_epoch9 and cars_epoch10 are one training, and so one task
        return path.parent / numbered["what"]
    says_nothing = path.name.removesuffix(INDEX) in MODEL_FILES or _ON_THE_WAY.match(path.name)
    return path.parent if says_nothing or label(path) != label(Path(path.name)) else None


def _called(path: Path) -> str:
    """What tells a checkpoint from others of its training: its folder or file."""
    return path.parent.name if _STEP.fullmatch(path.parent.name) else path.name


def _meant(folder: Path, task: str, paths: list[Path], asked: str | None) -> tuple[Path, str]:
    names = shortened([_called(path) for path in sorted(paths, key=_step)], 12)
    if asked is not None:
        found = [path for path in paths if asked in (_called(path), Path(_called(path)).stem)]
        if len(found) != 1:
            raise SuiteError(f"task {task}: no checkpoint {asked!r}; there are {names}")
        return found[0], "as asked for"
    finished = [p for p in paths if not _ON_THE_WAY.match(_called(p)) and not _NUMBERED.fullmatch(label(p))]
    if len(finished) == 1:
        return finished[0], f"{finished[0].as_posix()} lies beside the checkpoints on its way"
    newest = max(paths, key=_step)
    best = _json(folder / newest.parent / "trainer_state.json").get("best_model_checkpoint")
    name = PurePosixPath(best.replace("\\", "/")).name if isinstance(best, str) else ""
    found = [path for path in paths if path.parent.name == name] if not finished else []
    if len(found) == 1:
        return found[0], f"{name} is the best by the trainer_state.json of {_called(newest)}"
    raise SuiteError(
        f"task {task}: {len(paths)} checkpoints of one training, {names}, and nothing says which is meant; say it with "
        f"--checkpoint {task}={_called(newest)}, or move the others away"
    )


def _step(path: Path) -> tuple[int, str]:
    """The number in a checkpoint's name, by which they are in order."""
    numbers = re.findall(r"\d{1,12}", _called(path))
    return (int(numbers[-1]) if numbers else -1), path.as_posix()


def started_from(folder: Path, weights: list[Path]) -> tuple[Path, str] | None:
    """The one model that the configurations beside weight files say training began with, and who says so.

    None where they name none.

    It is another of the files, called like the last part of what is named, or the file of the hub with this id in its
    cache, as an absolute path.

    Raises:
        SuiteError: they name several, or one that is not here.
    """
    named: dict[str, str] = {}
    here: dict[str, Path] = {}
    for path in weights:
        for file, entry in _ORIGINS.items():
            value = _json(folder / path.parent / file).get(entry)
            if isinstance(value, str) and 0 < len(value) <= 1000:
                named.setdefault(value, (path.parent / file).as_posix())
                place = _place(value, [other for other in weights if other.parent != path.parent])
                here.update({value: place} if place is not None else {})
    if len({*here.values()}) == 1:
        value, place = next(iter(here.items()))
        return place, f"{named[value]} names {_shown(value)!r}"
    if here:
        raise SuiteError(
            f"{folder.name}: configurations name several models that training began with, "
            f"{', '.join(f'{_shown(value)!r} ({named[value]})' for value in here)}; name the base with --base"
        )
    if named:
        value, file = next(iter(named.items()))
        get = f"`hf download {value}` gets it from the hub" if is_hub_id(value) else "put it into the folder"
        raise SuiteError(
            f"{folder.name}: no file is named as a base, and {_shown(value)!r}, which {file} names, is not here; "
            f"{get}, or name the one that the others were fine-tuned from with --base"
        )
    return None


def _shown(value: str) -> str:
    """A model as it is named, without the folders of another machine."""
    return value if is_hub_id(value) else PurePosixPath(value.replace("\\", "/")).name[:100]


def _place(value: str, weights: list[Path]) -> Path | None:
    name = PurePosixPath(value.replace("\\", "/")).name
    found = [path for path in weights if name in (path.name, label(path))]
    if len(found) == 1 and not is_generic(Path(name)):
        return found[0]
    cached = located(HubFile(hub=value)) if is_hub_id(value) else None
    return cached if cached is not None and cached.is_file() else None


def _json(path: Path) -> Mapping[str, Any]:
    """A file of names and values; empty where there is none that can be read."""
    try:
        content = read_json(path, SuiteError, MAX_INDEX_BYTES)
    except SuiteError:
        return {}
    return content if isinstance(content, dict) else {}
