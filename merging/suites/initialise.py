"""Writing a ``suite.yaml`` for a folder of checkpoints by looking at it."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from merging.core.errors import MergingError, MismatchedCheckpoint, SuiteError
from merging.core.files import atomic_path
from merging.core.text import shortened, visible
from merging.core.wording import explain, nearest
from merging.core.yaml_text import CONTROL
from merging.hub.cache import HubFile, is_hub_id, located
from merging.suites.architecture import ACTIVATIONS, Activation, Tower, tower_of
from merging.suites.declared import UNSEEN, Agreed, Declared, agreed, beside, beyond_in_words, by_name, fact_in_words
from merging.suites.folder import (
    Contents,
    base_candidates,
    class_folders,
    is_generic,
    is_named_as_base,
    label,
    look,
    task_name,
)
from merging.suites.images.hub import class_names
from merging.suites.known_datasets import dataset_called, known_datasets
from merging.suites.logit_scale import scale_of, stored_logit_scale
from merging.suites.suite import Suite
from merging.suites.trainings import one_a_task, started_from
from merging.weights.files import Checkpoint, open_checkpoint
from merging.weights.files.adapters import is_adapter, open_on
from merging.weights.files.folders import INDEX, model_file
from merging.weights.vectors import TaskVectors

FILE = "suite.yaml"
_TEXT_ANCHOR = re.compile(r"(^|\.)token_embedding\.weight$")
_TEXT_BLOCK = re.compile(r"(^|\.)(transformer\.resblocks|text_model\.encoder\.layers)\.0\.")  # some files lack them
# Mean and standard deviation of image channels that OpenAI trained with, and nearly everybody since.
_OPENAI_IMAGES = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
_ADAPTER = re.compile(r"[-_.]((l-|rs|l)?lora|dora|peft|adapter)([-_.]?r?\d+)?$", re.IGNORECASE)  # what a task is not
_WIDTH = 110  # of a line of comment


@dataclass(frozen=True)
class Proposal:
    """What a folder's ``suite.yaml`` is to say, and what the files left open.

    Attributes:
        content: the fields of the file.
        notes: field → what was assumed there and why.
        missing: sentences on what accuracy would need and the folder lacks.
        left_out: weight file → why it is no task of the suite.
        unsaid: what nothing says and nobody may guess, ``activation`` or ``heads`` → the question. Without an answer
            there is no ``architecture``, and no suite.yaml can be written.
    """

    content: dict[str, Any]
    notes: dict[str, str]
    missing: tuple[str, ...]
    left_out: dict[str, str]
    unsaid: dict[str, str]


@dataclass(frozen=True)
class Answers:
    """What whoever makes the suite says of its models, since no tensor shows it.

    Attributes:
        activation: their activation function.
        heads: their number of attention heads.
        image_size: the side of images in pixels that position embeddings of another size are interpolated to.
        logit_scale: exponentiated, where the base's file does not say it.
    """

    activation: Activation | None = None
    heads: int | None = None
    image_size: int | None = None
    logit_scale: float | None = None

    @property
    def declared(self) -> list[Declared]:
        """As sources beside others."""
        given = {"activation": self.activation, "heads": self.heads}
        return [Declared(f"--{name}", {name: value}) for name, value in given.items() if value is not None]


NO_ANSWERS = Answers()


def init_suite(
    folder: Path,
    base: Path | None = None,
    name: str | None = None,
    force: bool = False,
    datasets: Mapping[str, str | None] | None = None,
    recognise: bool = True,
    checkpoints: Mapping[str, str] | None = None,
    take: str | None = None,
    answers: Answers = NO_ANSWERS,
) -> Proposal:
    """Look at a folder and write its ``suite.yaml``.

    Args:
        folder: where the checkpoints lie.
        base: the pre-trained weights: a file or a model's folder in the folder, or the id of a model in the hub's
            cache; found by its name, or by the models' configurations, if not given.
        name: of the suite; the folder's if not given.
        force: replace a ``suite.yaml`` that is there.
        datasets: task → one of :func:`~merging.suites.known_datasets.known_datasets` that it is on, or None for none
            of these.
        recognise: whether tasks that are not in ``datasets`` and are called like a known data set are on it.
        checkpoints: task → the name of its checkpoint, of several of one training.
        take: which tower, of files that hold several.
        answers: what no file says of the models.

    Returns:
        What was written.

    Raises:
        SuiteError: there is a ``suite.yaml`` already, no fine-tuned model, or not exactly one base; several checkpoints
            of one training, of which nothing says which is meant; ``datasets`` names
            a task or data set that there is not, or one that does not fit the task's head or images; nothing says which
            activation or how many heads the models have, or files and ``answers`` contradict each other.
        CheckpointError: the base can't be read.
    """
    path = folder / FILE
    if path.exists() and not force:
        raise SuiteError(f"{folder.name}/{FILE} is there already; nothing was changed; --force replaces it")
    proposal = propose(folder, base, name, datasets, recognise, checkpoints, take, answers)
    if proposal.unsaid:
        raise SuiteError(f"{folder.name}: {'; '.join(proposal.unsaid.values())}; nothing was written")
    try:
        Suite.model_validate({**proposal.content, "folder": folder})
    except ValidationError as error:
        raise SuiteError(f"{folder.name}: no suite can be made of it: {explain(error)}") from None
    with atomic_path(path) as temporary:
        temporary.write_text(to_yaml(proposal), encoding="utf-8")
    return proposal


def propose(
    folder: Path,
    base: Path | None = None,
    name: str | None = None,
    datasets: Mapping[str, str | None] | None = None,
    recognise: bool = True,
    checkpoints: Mapping[str, str] | None = None,
    take: str | None = None,
    answers: Answers = NO_ANSWERS,
) -> Proposal:
    """As :func:`init_suite`, without writing anything; what nothing says stands in ``unsaid``."""
    found = look(folder)
    chosen, origin = _base(folder, found, base)
    found, reasons = one_a_task(folder, found, chosen, checkpoints or {})
    own = beside(folder / chosen, _name(chosen))  # before its tensors: a configuration says best what a model is
    opened = open_checkpoint(folder / chosen)
    tower = _tower(chosen, opened)
    fitted = opened.resized(answers.image_size) if answers.image_size else opened
    tasks, text_towers, left_out = _fine_tuned(folder, found, chosen, fitted, take, answers.image_size)
    if not tasks:
        why = "; ".join(f"{file}: {reason}" for file, reason in list(left_out.items())[:3])
        why += f"; {len(left_out) - 3} more are left out" if len(left_out) > 3 else ""
        raise SuiteError(f"{folder.name}: no fine-tuned model beside the base {chosen.name}. {why}".rstrip(". "))
    said, text_cfg, remarks = _said(folder, chosen, tower, own, tasks, answers)
    unsaid = _unsaid(_name(chosen), tower, said)
    settled = {} if unsaid else _settled(tower, said, text_cfg, opened)
    describes_text = isinstance(settled.get("architecture"), str) or text_cfg is not None
    text = _text_tower(folder, chosen, opened, text_towers) if describes_text else None
    entries = [_task(folder, found, task, tasks[task], take) for task in sorted(tasks, key=str.casefold)]
    entries, unfit = _on_datasets(folder, entries, datasets or {}, recognise)
    scale, odd_scale = _logit_scale(opened)
    content: dict[str, Any] = {
        "name": (name or folder.resolve().name)[:80],
        **settled,
        "image_size": answers.image_size,
        "logit_scale": scale or answers.logit_scale,
        "base": _reference(chosen),
        "text_tower": _reference(text) if text else None,
        "tasks": entries,
    }
    content = {key: value for key, value in content.items() if value is not None}
    missing = tuple(_missing(entries, text_towers, text, describes_text))
    notes = _notes(content, tower, said, remarks, unfit)
    if odd_scale:
        notes["base"] = odd_scale
    if origin:
        notes["base"] = "; ".join([f"found since {origin}", *filter(None, [notes.get("base")])])
    if reasons:
        which = (f"checkpoint of {task}: {reason}" for task, reason in reasons.items())
        notes["tasks"] = "; ".join([*filter(None, [notes["tasks"]]), *which])
    return Proposal(content, notes, missing, {**found.passed_over, **left_out}, unsaid)


def _tower(path: Path, base: Checkpoint) -> Tower:
    """The sizes of the base; raises as :func:`tower_of`, with what the file is called."""
    try:
        return tower_of({tensor: info.shape for tensor, info in base.infos.items()})
    except MismatchedCheckpoint as error:
        raise MismatchedCheckpoint(f"{_name(path)}: {error}") from None


def to_yaml(proposal: Proposal) -> str:
    """The text of the ``suite.yaml``, with comments on what was assumed."""
    parts = []
    for key, value in proposal.content.items():
        if key in proposal.notes:
            parts.append(_comment(proposal.notes[key]))
        parts.append(yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=_WIDTH))
    left_out = [f"left out: {file}: {reason}" for file, reason in proposal.left_out.items()]
    return "".join([*parts, *map(_comment, (*proposal.missing, *left_out))])


def _comment(text: str) -> str:
    """A sentence as one line of comment, whatever stands in it."""
    line = " ".join(text.split())
    return f"# {''.join(letter if letter.isprintable() else '?' for letter in line)}\n"


def _reference(path: Path) -> str | dict[str, str]:
    """How suite.yaml names a file: relative to the folder, or one of the hub's cache by its repository."""
    if not path.is_absolute():
        return path.as_posix()
    repository = next(part for part in reversed(path.parts) if part.startswith("models--"))
    return {"hub": "/".join(repository.split("--")[1:])}


def _name(path: Path) -> str:
    """What to call a file in a sentence: as suite.yaml does."""
    reference = _reference(path)
    return reference if isinstance(reference, str) else reference["hub"]


def _base(folder: Path, found: Contents, given: Path | None) -> tuple[Path, str]:
    """The base, relative to the folder or a file of the hub's cache; and who names it where its own name does not."""
    if given is not None:
        root = folder.resolve()
        for path in (folder / given, given):
            place = path.parent.resolve()  # the folder of a link, not of what it leads to
            if path.exists() and place.is_relative_to(root):
                return model_file(place / path.name).relative_to(root), ""
        hub = HubFile(hub=given.as_posix()) if is_hub_id(given.as_posix()) else None
        if hub is not None and located(hub).is_file():
            return located(hub), ""
        raise SuiteError(f"base {given.name}: no such file in {folder.name}; move it in")
    candidates = base_candidates(found.weights)
    if len(candidates) > 1 and len({open_checkpoint(folder / path).fingerprint for path in candidates}) == 1:
        return candidates[0], ""  # the same file beside every task
    if len(candidates) == 1:
        return candidates[0], ""
    started = None if candidates else started_from(folder, found.weights)
    if started is not None:
        return started
    listed = shortened([path.as_posix() for path in candidates or found.weights], 20)
    if candidates:
        raise SuiteError(f"{folder.name}: {len(candidates)} files may be the base: {listed}; name one with --base")
    if not listed:
        raise SuiteError(f"{folder.name}: no weight files; expected a base and models fine-tuned from it")
    raise SuiteError(
        f"{folder.name}: no file is named as a base (base, zeroshot, pretrained, openai, …); "
        f"name the one that the others were fine-tuned from with --base; there are: {listed}"
    )


def _fine_tuned(
    folder: Path, found: Contents, base: Path, opened: Checkpoint, take: str | None, image_size: int | None
) -> tuple[dict[str, Path], list[Path], dict[str, str]]:
    """Tasks with their files, files of a text tower, and what is neither, with the reason."""
    usable: list[Path] = []
    text_towers: list[Path] = []
    left_out: dict[str, str] = {}
    for path in found.weights:
        if path == base:
            continue
        if is_named_as_base(path):
            left_out[path.as_posix()] = f"another base beside {base.name if base.is_absolute() else base.as_posix()}"
            continue
        if CONTROL.search(path.as_posix()):
            left_out[visible(path.as_posix())] = (
                "a control character in its name, which no suite.yaml may hold; rename it"
            )
            continue
        try:
            needed = None if is_adapter(path) else _needed(folder / path, take)
            checkpoint = open_on(opened, folder / path, take=needed)
            if "token_embedding.weight" in checkpoint.infos and "conv1.weight" not in checkpoint.infos:
                text_towers.append(path)
                continue
            fitted = checkpoint.resized(image_size) if image_size else checkpoint
            TaskVectors(opened, (fitted,), (label(path),))
            usable.append(path)
        except MergingError as error:
            left_out[path.as_posix()] = str(error)
    return _named(folder, usable, label(base)), text_towers, left_out


def _needed(path: Path, take: str | None) -> str | None:
    """What to take of a file, if it holds several towers."""
    if take is not None:
        with suppress(MergingError):  # there is one tower, so that nothing is to be chosen
            open_checkpoint(path)
            return None
    return take


def _plain(path: Path, name: str) -> str:
    """What a model is called, without saying that it is an adapter."""
    return _ADAPTER.sub("", name) if is_adapter(path) else name


def _named(folder: Path, paths: list[Path], base: str) -> dict[str, Path]:
    """A name for every task: what its file or folder is called, without the model's name and how it was trained.

    Raises:
        SuiteError: two would have the same name.
    """
    called = {path: folder.resolve().name if is_generic(path) else label(path) for path in paths}
    ways = (
        {path: task_name(_plain(path, name), base)[:80] for path, name in called.items()},
        {path: name[:80] for path, name in called.items()},
        {path: "-".join(path.with_name(path.name.removesuffix(INDEX)).with_suffix("").parts)[-80:] for path in paths},
    )
    names: dict[str, Path] = {}
    for way in ({path: _on_one_line(name) for path, name in one.items()} for one in ways):
        left = [path for path in paths if path not in names.values()]
        often = Counter(way[path] for path in left)
        names |= {way[path]: path for path in left if often[way[path]] == 1 and way[path] not in names}
    nameless = [_on_one_line(path.as_posix()) for path in paths if path not in names.values()]
    if nameless:
        raise SuiteError(f"{folder.name}: {shortened(nameless, 4)} would be tasks of one name; rename the files")
    return names


def _on_one_line(name: str) -> str:
    """As names of tasks are, of a file whose name may be anything."""
    return "".join(letter if letter.isprintable() else " " for letter in name).strip()


def _checkpoint_reference(folder: Path, checkpoint: Path) -> str:
    """What to write for a model: its file, or the folder of the one adapter in it."""
    inside = [path for path in (folder / checkpoint.parent).iterdir() if is_adapter(path)]
    whole = is_adapter(checkpoint) and checkpoint.parent.name and {path.stem for path in inside} == {checkpoint.stem}
    return f"{checkpoint.parent.as_posix()}/" if whole else checkpoint.as_posix()


def _task(folder: Path, found: Contents, name: str, checkpoint: Path, take: str | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name, "checkpoint": _checkpoint_reference(folder, checkpoint)}
    needed = None if is_adapter(checkpoint) else _needed(folder / checkpoint, take)
    if needed is not None:
        entry["take"] = needed
    called = label(checkpoint)
    head, images = found.head(name) or found.head(called), found.images_of(name) or found.images_of(called)
    if head is not None:
        entry["head"] = head.as_posix()
    if images is not None:
        kind, classes = _kind_and_classes(folder / images)
        entry |= {"classes": classes} if classes else {}
        entry["data"] = {"kind": kind, "path": images.as_posix()}
    return entry


def _on_datasets(
    folder: Path, entries: Sequence[dict[str, Any]], given: Mapping[str, str | None], recognise: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """The tasks with the known data sets that they are on, and why some are not on those that they are called like."""
    unknown = sorted(given.keys() - {entry["name"] for entry in entries})
    if unknown:
        names = ", ".join(entry["name"] for entry in entries)
        raise SuiteError(f"{folder.name}: a data set is given for {', '.join(unknown)}; the tasks are {names}")
    described, unfit = [], []
    for entry in entries:
        task = entry["name"]
        dataset = given[task] if task in given else dataset_called(task) if recognise else None
        reason = "" if dataset is None else _unfit(folder, entry, dataset)
        if reason and task in given:
            raise SuiteError(reason)
        unfit += [reason] * bool(reason)
        known = dataset is not None and not reason
        described.append(
            {"name": task, "dataset": dataset, **entry} if known else {**entry, "source": "", "licence": ""}
        )
    return described, unfit


def _unfit(folder: Path, entry: Mapping[str, Any], dataset: str) -> str:
    """Why a task is not on a known data set, by the number of classes that its files show; empty if it may be."""
    known = known_datasets().get(dataset)
    if known is None:
        near = nearest(dataset, known_datasets())
        return f"task {entry['name']}: unknown data set {dataset!r}{near}; expected {', '.join(known_datasets())}"
    shown = {"images": len(entry["classes"])} if "classes" in entry else {}
    if "head" in entry:
        with suppress(MergingError):  # what is wrong with it is for `check` to say
            info = open_checkpoint(folder / entry["head"], part="all").infos.get("weight")
            shown |= {"head": info.shape[0]} if info is not None and info.shape else {}
    for what, classes in shown.items():
        if classes != len(known["classes"]):
            return (
                f"task {entry['name']} is not on the known data set {dataset} with {len(known['classes'])} classes: "
                f"it has {classes} by its {what}"
            )
    return ""


def _kind_and_classes(images: Path) -> tuple[str, list[str]]:
    """How images are stored, and the names of their classes as far as that shows them."""
    if images.suffix == ".npz":
        return "arrays", []
    if any(images.glob("*.parquet")):
        return "huggingface", class_names(images)
    return "imagefolder", [name.replace("_", " ") for name in class_folders(images)]


def _said(
    folder: Path, base: Path, tower: Tower, own: Sequence[Declared], tasks: Mapping[str, Path], answers: Answers
) -> tuple[Agreed, Mapping[str, Any] | None, list[str]]:
    """What all sources say of the models; open_clip's settings of a text tower; what is asked for and not done here.

    Raises:
        SuiteError: two sources contradict each other, or one can't be read.
    """
    places = {path.parent: path for path in tasks.values() if path.parent != base.parent}
    others = [one.only(UNSEEN) for path in places.values() for one in beside(folder / path, path.as_posix())]
    shapes = {name: value for name, value in vars(tower).items() if value is not None}
    sources = [Declared(f"the tensors of {_name(base)}", shapes), *answers.declared, *own, *others]
    left = UNSEEN - agreed(sources).facts.keys()
    usual = {"heads": tower.usual_heads} if tower.usual_heads is not None else {}
    weaker = [by_name(_name(base), tower), Declared("all published towers of this width and depth", usual)]
    found = agreed([*sources, *(one.only(left) for one in weaker if one is not None)])
    text = next((one.text_cfg for one in own if one.text_cfg is not None), None)
    return found, text, [remark for one in (*own, *others) for remark in one.remarks]


def _unsaid(base: str, tower: Tower, said: Agreed) -> dict[str, str]:
    """The questions that nothing answers."""
    questions = {
        "activation": f"nothing says whether {base} was trained with QuickGELU or GELU; no tensor shows it, "
        "and the wrong one lowers every accuracy: say --activation quick_gelu (models of OpenAI, MetaCLIP, DFN) or "
        "--activation gelu (LAION, DataComp), or put the model's config.json or open_clip_config.json beside it",
        "heads": f"nothing says how many attention heads {base} has; no published tower has {tower.layers} "
        f"layers {tower.width} wide: say --heads with the number that it was trained with",
    }
    return {name: question for name, question in questions.items() if name not in said.facts}


def _settled(tower: Tower, said: Agreed, text_cfg: Mapping[str, Any] | None, base: Checkpoint) -> dict[str, Any]:
    """The fields on the architecture and on what it wants to see."""
    heads, beyond = said.facts["heads"], said.facts.get("beyond", {})
    if tower.width % heads:
        raise SuiteError(f"{said.origins['heads']}: {heads} attention heads; expected a divisor of {tower.width}")
    if "ln_pre.weight" not in base.infos and not beyond.get("no_ln_pre"):
        raise SuiteError(
            f"{base.path.name}: lacks 'ln_pre.weight'; a tower without it, such as CLIPA's, needs its "
            "open_clip_config.json beside it"
        )
    fields = tower.fields(heads, said.facts["activation"], beyond)
    if isinstance(fields["architecture"], dict) and text_cfg is not None:
        fields["architecture"]["text_cfg"] = dict(text_cfg)
    images = {name: list(said.facts.get(name, usual)) for name, usual in _OPENAI_IMAGES.items()}
    return fields if images == _OPENAI_IMAGES else {**fields, "preprocess": images}


def _logit_scale(base: Checkpoint) -> tuple[float | None, str]:
    """The exponentiated logit scale of a file that holds a whole CLIP, and what is odd about it."""
    stored = stored_logit_scale(base)
    if stored is None:
        return None, ""
    scale = scale_of(stored)
    if scale is None:
        return None, (
            f"logit_scale: the base stores {stored:g}, which is neither the logarithm of a scale nor one; 100, that of "
            "OpenAI's CLIP, is taken if none is written here"
        )
    as_it_is = f"logit_scale: the base stores {stored:g}, too large for a logarithm, so taken as it is"
    return round(scale, 4), as_it_is if stored == scale else ""


def _text_tower(folder: Path, path: Path, base: Checkpoint, others: list[Path]) -> Path | None:
    """The one file with a text tower: the base's own, else the only other one."""
    dropped = base.layout.dropped
    if any(map(_TEXT_ANCHOR.search, dropped)) and any(map(_TEXT_BLOCK.search, dropped)):
        return path
    return others[0] if len(others) == 1 else None


def _notes(
    content: Mapping[str, Any], tower: Tower, said: Agreed, remarks: Sequence[str], unfit: Sequence[str]
) -> dict[str, str]:
    known = [f"{task['name']} ({task['dataset']})" for task in content["tasks"] if "dataset" in task]
    about = [*unfit]
    if known:
        about.append(
            f"taken for the known data sets that they are called like: {', '.join(known)}; `dataset` fills in title, "
            "class names, templates, images on the hub, source and licence, and what is written beside it comes first"
        )
    if len(known) < len(content["tasks"]):
        about.append(
            f"source and licence of {'the other' if known else 'each'} task's images: no file says; fill them in"
        )
    ordered = [task["name"] for task in content["tasks"] if "head" in task and _by_folders(task)]
    if ordered:
        about.append(
            f"classes of {', '.join(ordered)}: the names of the image folders, numbers in numeric order, all others as "
            "text; the rows of the head must be in this order"
        )
    notes = {"tasks": "; ".join(about)}
    if "architecture" in content:
        unseen = [
            f"{what} ({said.origins[name]})"
            for name, what in (
                ("activation", ACTIVATIONS[said.facts["activation"]]),
                ("heads", f"{said.facts['heads']} attention heads"),
                ("beyond", ", ".join(beyond_in_words(said.facts.get("beyond", {})))),
                ("mean", f"mean of image channels {fact_in_words(said.facts.get('mean', ()))}"),
                ("std", f"standard deviation {fact_in_words(said.facts.get('std', ()))}"),
            )
            if name in said.facts
        ]
        usual = [] if "mean" in said.facts else ["mean and standard deviation of images: no file says; OpenAI's"]
        notes["architecture"] = "; ".join(
            [f"read from shapes: {tower.label}", f"not shown by them: {', '.join(unseen)}", *usual, *remarks]
        )
    if "image_size" in content:
        notes["image_size"] = "position embeddings of another size are interpolated, as open_clip does"
    if "logit_scale" not in content:
        notes["base"] = "logit_scale: no file says; 100, that of OpenAI's CLIP, is taken if none is written here"
    return notes


def _by_folders(task: Mapping[str, Any]) -> bool:
    """Whether a task's classes were named after its folders of images."""
    return "classes" in task and task.get("data", {}).get("kind") == "imagefolder"


def _missing(entries: list[dict[str, Any]], others: list[Path], text: Path | None, describes_text: bool) -> list[str]:
    def lacking(wanted: str) -> str:
        return ", ".join(entry["name"] for entry in entries if wanted not in entry and "dataset" not in entry)

    missing = []
    if lacking("data"):
        missing.append(f"no images for {lacking('data')}: no accuracy for these")
    headless = [
        entry["name"]
        for entry in entries
        if "head" not in entry and not (text and {"classes", "dataset"} & entry.keys())
    ]
    if headless:
        missing.append(
            f"no head for {', '.join(headless)}: name a head file, or classes and a text_tower; else no accuracy"
        )
    if others and text is None:
        found = ", ".join(path.as_posix() for path in others)
        why = "several" if describes_text else "for this architecture write its text_cfg too"
        missing.append(f"text towers found but not named ({why}): {found}")
    return missing
