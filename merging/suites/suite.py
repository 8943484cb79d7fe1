"""The ``suite.yaml`` file and what it names.

Weights, images and heads can each be missing: geometry and merging need only weights, accuracy needs all three.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from merging.core.errors import CheckpointError, MissingPart, SuiteError
from merging.core.gate import require_regular
from merging.core.limits import MAX_SUITE_BYTES
from merging.core.places import path_of
from merging.core.wording import HasNamesOf, explain, nearest
from merging.core.yaml_text import read_yaml
from merging.hub.cache import (
    HubFile,
    cache_folder,
    id_in_address,
    in_cache,
    is_hub_id,
    located,
    promised_sha256,
    snapshot,
)
from merging.suites.architecture import QUICK, Activation
from merging.suites.groups import expanded, groups_from
from merging.suites.images.hub_datasets import cached_dataset
from merging.suites.images.kinds import Entry, HuggingFaceData, ImageSource, Preprocess, TorchvisionData
from merging.suites.inline import InlineArchitecture, VisionConfig
from merging.suites.known_datasets import known_datasets
from merging.suites.reported import Family
from merging.weights.files import Checkpoint, open_checkpoint
from merging.weights.files.adapters import adapter_in, files_of, is_adapter, open_on, require_one_adapter
from merging.weights.files.checkpoint import Part
from merging.weights.files.folders import is_complete, model_file, weight_files, weight_suffix
from merging.weights.vectors import TaskVectors

DEFAULT = "mini"
_EMBEDDED_IN = Path(__file__).resolve().parent  # the suites whose files all come with the package
Split = Literal["val", "test"]
FileReference = str | HubFile  # a path relative to suite.yaml, or a file of the Hugging Face hub


class Task(Entry):
    """A fine-tuned model with its evaluation set and head.

    ``dataset`` names one of :func:`merging.suites.known_datasets.known_datasets`, whose fields hold where the task
    states none itself; ``take`` says which of several towers in the checkpoint is meant. ``folders`` says of folders of
    images which class they hold, by name or index, or that they are left out (null), see
    :func:`merging.suites.images.class_folders.match_folders`. ``kind`` says in a word what the images are, so that all
    tasks of a kind can be chosen together.
    """

    name: str = Field(min_length=1, max_length=80)
    kind: str = Field("", max_length=40)
    dataset: str | None = None
    checkpoint: FileReference | None = None
    take: str | None = Field(None, min_length=1, max_length=300)
    head: FileReference | None = None
    classes: tuple[str, ...] = Field(default=(), max_length=100_000)
    templates: tuple[str, ...] | None = None
    folders: dict[str, str | int | None] = Field(default={}, max_length=100_000)
    data: ImageSource | None = None
    title: str = ""
    description: str = ""
    source: str = ""
    licence: str = ""

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        for name in ("on_error", "range"):
            if name in values:
                raise ValueError(f"`{name}` is about the images: write it into `data` of the task")
        if isinstance(values.get("data"), dict) and "folders" in values["data"]:
            raise ValueError("`folders` is about the classes: write it beside `classes`, not into `data`")
        if values.get("dataset") is None:
            return values
        known = known_datasets().get(str(values["dataset"]))
        if known is None:
            near = nearest(values["dataset"], known_datasets())
            raise ValueError(
                f"dataset {str(values['dataset'])[:80]!r}{near}: expected one of {', '.join(known_datasets())}"
            )
        if "classes" in values:  # then the known folders lead to classes that there may not be
            known = {name: value for name, value in known.items() if name != "folders"}
        return {**known, **values}

    @field_validator("name")
    @classmethod
    def _one_line(cls, name: str) -> str:
        """As ``--tasks`` and links name it, where blanks around a name don't count."""
        if name != name.strip() or not name.isprintable():
            raise ValueError("expected text on one line, without blanks around it")
        return name

    @field_validator("folders", mode="before")
    @classmethod
    def _folders_are_names(cls, values: Any) -> Any:
        """YAML reads 010 as 8 and no as false: which folder was meant is then lost."""
        for folder in values if isinstance(values, dict) else ():
            if not isinstance(folder, str):
                raise ValueError(f"{folder!r} is no text in YAML; write folder names in quotes: '{folder}'")
        for wanted in values.values() if isinstance(values, dict) else ():
            if wanted is not None and type(wanted) not in (str, int):
                raise ValueError(f"{wanted!r} is no class; expected a name (in quotes), an index, or null: left out")
        return values

    @model_validator(mode="after")
    def _folders_of_classes(self) -> "Task":
        if self.folders and not self.classes:
            raise ValueError("folders need classes: list `classes` for the task, in the order of the head's rows")
        return self

    @property
    def label(self) -> str:
        """What to call the task on screen."""
        return self.title or self.name


class Suite(Entry):
    """A parsed ``suite.yaml``. Paths in it are relative to the file and may not leave its folder.

    Those of an embedded suite may lead to the files of another, which both then use.

    ``checkpoints`` says of which published family the weights are, for the published numbers to set beside one's own.
    ``activation`` and ``heads`` say what ``architecture`` leaves open; ``image_size`` asks for position embeddings of
    another size to be interpolated. ``groups`` names groups of tasks: so many first ones, or those listed; ``usual`` is
    the group that is meant where no tasks are named.
    """

    name: str = Field(min_length=1, max_length=80)
    architecture: str | Annotated[dict[str, Any], HasNamesOf(InlineArchitecture)]
    activation: Activation | None = None
    heads: int | None = Field(None, gt=0, le=1024, strict=True)
    image_size: int | None = Field(None, gt=0, le=2**14, strict=True)
    checkpoints: Family | None = None
    logit_scale: float = Field(100.0, gt=0, le=1000, strict=True)
    preprocess: Preprocess | None = None
    base: FileReference
    tasks: tuple[Task, ...] = Field(min_length=1, max_length=1000)
    groups: dict[str, Annotated[int, Field(strict=True)] | tuple[str, ...]] = Field(default={}, max_length=100)
    usual: str | None = None
    title: str = ""
    description: str = ""
    licence: str = ""
    text_tower: FileReference | None = None
    templates: tuple[str, ...] = ("a photo of a {}.",)
    folder: Path = Field(exclude=True)

    @field_validator("architecture")
    @classmethod
    def _buildable_offline(cls, value: str | dict[str, Any]) -> str | dict[str, Any]:
        if isinstance(value, str):
            if not re.fullmatch(r"[\w.-]{1,80}", value):
                raise ValueError("expected the name of an open_clip model, such as ViT-B-32; nothing is downloaded")
            return value
        missing = {"embed_dim", "vision_cfg"} - value.keys()
        if missing:
            raise ValueError(f"lacks {sorted(missing)}")
        for part in ("vision_cfg", "text_cfg"):
            if not isinstance(value.get(part, {}), dict):
                raise ValueError(f"needs a mapping {part}")
        InlineArchitecture.model_validate(value)  # its errors name the place within the architecture
        return value

    @model_validator(mode="after")
    def _said_once(self) -> "Suite":
        """Insist on an ``architecture`` that ``activation`` and ``heads`` do not contradict."""
        inline = self.architecture if isinstance(self.architecture, dict) else {}
        named_quick = isinstance(self.architecture, str) and self.architecture.endswith(QUICK)
        said = inline.get("quick_gelu", True if named_quick else None)
        if self.activation is not None and said is not None and said != (self.activation == "quick_gelu"):
            where = "architecture.quick_gelu" if inline else "architecture"
            raise ValueError(
                f"activation is {self.activation!r}, {where} is {inline.get('quick_gelu', self.architecture)!r}: "
                "they contradict each other; leave one out"
            )
        vision = VisionConfig.model_validate(inline["vision_cfg"]) if inline else None
        if self.heads is not None and vision is not None:
            if vision.width % self.heads:
                raise ValueError(f"heads is {self.heads}; expected a divisor of the width, {vision.width}")
            own = vision.width // vision.head_width
            if "head_width" in inline["vision_cfg"] and own != self.heads:
                raise ValueError(
                    f"heads is {self.heads}, architecture.vision_cfg.head_width gives {own}: they contradict each "
                    "other; leave one out"
                )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "Suite":
        names = self.task_names
        if len(set(names)) != len(names):
            again = next(name for name, count in Counter(names).items() if count > 1)
            raise ValueError(f"task names must differ, and {again!r} is there twice: {', '.join(names)}; rename one")
        groups = groups_from(self.groups, names)
        if self.usual is not None and self.usual not in groups:
            near = nearest(self.usual, groups)
            raise ValueError(f"usual: no group {self.usual!r}{near}; `groups` names {', '.join(groups) or 'none'}")
        for template in (*self.templates, *(t for task in self.tasks for t in task.templates or ())):
            if template.count("{}") != 1 or re.search("[{}]", template.replace("{}", "", 1)):
                raise ValueError(f"template {template[:120]!r} must hold {{}} exactly once, and no other brace")
        return self

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names in the order of the file."""
        return tuple(task.name for task in self.tasks)

    @property
    def label(self) -> str:
        """What to call the suite on screen."""
        return self.title or self.name

    @property
    def architecture_label(self) -> str:
        """What to call the architecture on screen."""
        if isinstance(self.architecture, str):
            return self.architecture
        vision = self.architecture.get("vision_cfg", {})
        return f"ViT {vision.get('layers')} × {vision.get('width')}, patch {vision.get('patch_size')}"

    @property
    def quick_gelu(self) -> bool:
        """Whether the towers' activation is QuickGELU, as in OpenAI's models."""
        if self.activation is not None:
            return self.activation == "quick_gelu"
        if isinstance(self.architecture, str):
            return self.architecture.endswith(QUICK)
        return bool(self.architecture.get("quick_gelu"))

    @property
    def beside_architecture(self) -> dict[str, str | int]:
        """What is said of the towers besides ``architecture``; empty for most suites, and part of no identity then."""
        said = {"activation": self.activation, "heads": self.heads, "image_size": self.image_size}
        return {name: value for name, value in said.items() if value is not None}

    def task(self, name: str) -> Task:
        """One task.

        Raises:
            SuiteError: there is none of that name.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        near = nearest(name, self.task_names)
        raise SuiteError(f"suite {self.name!r} has no task {name!r}{near}; it has {', '.join(self.task_names)}")

    def task_labels(self, tasks: Sequence[str]) -> dict[str, str]:
        """Task → what to call it on screen, no two the same; a task that the suite no longer has keeps its name."""
        known = {task.name: task.label for task in self.tasks}
        shared = Counter(known.values())
        labels = {task: label if shared[label] == 1 else f"{label} ({task})" for task, label in known.items()}
        return {task: labels.get(task, task) for task in tasks}

    @cached_property
    def task_groups(self) -> dict[str, tuple[str, ...]]:
        """Group → its tasks, in the order of the file."""
        return groups_from(self.groups, self.task_names)

    @property
    def task_kinds(self) -> dict[str, tuple[str, ...]]:
        """Kind → all of its tasks, in the order of the file; without those that state none."""
        kinds = dict.fromkeys(task.kind for task in self.tasks if task.kind)
        return {kind: tuple(task.name for task in self.tasks if task.kind == kind) for kind in kinds}

    @property
    def usual_tasks(self) -> tuple[str, ...]:
        """The tasks that are meant where none are named: those of the usual group, or all."""
        return self.task_names if self.usual is None else self.task_groups[self.usual]

    def at_first(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """Of some tasks those to begin with: the usual ones among them, or all where none of them is usual."""
        return tuple(task for task in tasks if task in self.usual_tasks) or tuple(tasks)

    def choices(self) -> dict[str, tuple[str, ...]]:
        """What to call several tasks that can be chosen together → these: groups, and kinds of two tasks or more."""
        groups = {
            f"First {name}" if self.groups[name] == len(tasks) and name == str(len(tasks)) else name: tasks
            for name, tasks in self.task_groups.items()
        }
        kinds = {kind: tasks for kind, tasks in self.task_kinds.items() if len(tasks) > 1}
        return {**groups, **{f"All {kind}": tasks for kind, tasks in kinds.items()}}

    def chosen(self, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """Tasks by name, in the order given; ``group:`` and ``kind:`` stand for several, see :mod:`.groups`.

        Without names all usual ones that name a checkpoint, though its file may be missing.

        Raises:
            SuiteError: there is no task, group or kind of that name.
            MissingPart: none of the tasks names a checkpoint.
        """
        if names is not None:
            every = expanded(names, self.task_names, self.task_groups, self.task_kinds)
            return tuple(self.task(name).name for name in every)
        found = tuple(name for name in self.usual_tasks if self.task(name).checkpoint)
        if not found:
            raise MissingPart(f"suite {self.name!r} names no checkpoint for any task; add them in its suite.yaml")
        return found

    def rest(self, merged: Sequence[str]) -> tuple[str, ...]:
        """The tasks besides some that accuracy can be measured on, with or without a model of their own."""
        return tuple(task for task in self.task_names if task not in merged and self.present(task))

    def mergeable(self) -> tuple[str, ...]:
        """Names of the tasks that have a checkpoint file."""
        return tuple(t.name for t in self.tasks if t.checkpoint and self.path(t.checkpoint).is_file())

    def measurable(self, name: str) -> bool:
        """Whether accuracy can be computed for a task: images and a head, or classes to make one from."""
        task = self.task(name)
        return task.data is not None and bool(task.head or (task.classes and self.text_tower))

    def present(self, name: str) -> bool:
        """Whether a task is measurable and the files that it names for that are there."""
        task = self.task(name)
        head, images = task.head or self.text_tower, self.images_path(name)
        return (
            self.measurable(name)
            and (images is not None and images.exists())
            and (head is not None and self.path(head).exists())
        )

    def images_path(self, name: str) -> Path | None:
        """The file or folder with a task's images; None if it names none, or the hub's cache lacks the data set."""
        data = self.task(name).data
        if data is None:
            return None
        if isinstance(data, TorchvisionData):
            return self._inside(data.root)
        if isinstance(data, HuggingFaceData) and data.dataset is not None:
            return cached_dataset(data.dataset, data.revision)
        return self._inside(data.path or "")

    @cached_property
    def _root(self) -> Path:
        return self.folder.resolve()

    def path(self, reference: FileReference) -> Path:
        """Where a file is, or would be: one of the hub's in its cache, any other below the suite's folder.

        A folder stands for the model in it, or for the adapter. Symbolic links on the way may lead anywhere, as in
        download caches.

        Raises:
            SuiteError: the path as written leads out of the suite's folder.
        """
        if isinstance(reference, HubFile):
            return located(reference)
        path = self._inside(reference)
        if not path.is_dir():
            return path
        with suppress(CheckpointError):  # what is wrong with a folder is said where it is opened
            return model_file(path)
        return adapter_in(path) or path

    def weight_files(self, reference: FileReference) -> tuple[Path, ...]:
        """All files that weights are in, there or not: a file, an index with its shards, an adapter's two."""
        path = self.path(reference)
        if is_adapter(path):
            return tuple(files_of(path))
        with suppress(CheckpointError):  # what is wrong with an index is said where it is opened
            return weight_files(path)
        return (path,)

    def _inside(self, relative: str) -> Path:
        root = self._root
        bounds = _EMBEDDED_IN if root.parent == _EMBEDDED_IN else root
        try:
            path = Path(os.path.normpath(root / relative))
            path.exists()
        except (OSError, ValueError, RuntimeError):
            raise SuiteError(f"suite {self.name!r}: {relative[:80]!r} can't be a path") from None
        if not path.is_relative_to(bounds):
            raise SuiteError(
                f"suite {self.name!r}: path {relative!r} leads out of the suite's folder; move the file in"
            )
        return path

    def missing_weights(self, tasks: Sequence[str]) -> list[FileReference]:
        """The base and the fine-tuned models of some tasks, those that the suite names and that are not there."""
        named = (self.base, *(self.task(name).checkpoint for name in tasks))
        return [each for each in named if each is not None and not is_complete(self.path(each))]

    @property
    def reference(self) -> str:
        """What the suite is called on a command line; a path is given without the folders that lead to it."""
        return self.name if builtin_suites().get(self.name) == self.folder else f"{self.folder.name}/suite.yaml"

    @cached_property
    def base_checkpoint(self) -> Checkpoint:
        """The pre-trained weights."""
        return self.fitted(self.open(self.base))

    @cached_property
    def text_checkpoint(self) -> Checkpoint:
        """The file with the text tower, all of its tensors.

        Raises:
            MissingPart: the suite names none.
        """
        if self.text_tower is None:
            raise MissingPart(f"suite {self.name!r} names no text_tower")
        return self.open(self.text_tower, "text")

    def checkpoint(self, name: str) -> Checkpoint:
        """The fine-tuned weights of a task, with the base's projection if their file holds none.

        Raises:
            SuiteError: the suite names no file for it.
        """
        cache: dict[str, Checkpoint] = self._checkpoints
        if name not in cache:
            reference = self.task(name).checkpoint
            if reference is None:
                raise MissingPart(
                    f"suite {self.name!r}: task {name!r} has no checkpoint; add one, or leave the task out"
                )
            path, promised = self._found(reference)
            if is_adapter(path):
                cache[name] = open_on(self.base_checkpoint, path, promised)
            else:  # the base is needed only by files without a projection
                opened = self.fitted(open_checkpoint(path, promised=promised, take=self.task(name).take))
                cache[name] = opened.completed(self.base_checkpoint) if opened.lacks_projection else opened
        return cache[name]

    def fitted(self, checkpoint: Checkpoint) -> Checkpoint:
        """A visual tower for images of the size that the suite asks for; the same one if it asks for none."""
        return checkpoint if self.image_size is None else checkpoint.resized(self.image_size)

    def open(self, reference: FileReference, part: Part = "visual", take: str | None = None) -> Checkpoint:
        """A weight file of the suite.

        Raises:
            MissingPart: a file of the hub is not in its cache.
            CheckpointError: as :func:`merging.weights.files.open_checkpoint`.
        """
        path, promised = self._found(reference)
        return open_checkpoint(path, part, promised, take)

    def _found(self, reference: FileReference) -> tuple[Path, str | None]:
        """Where a file is, and the SHA-256 that it must have if that is known."""
        path = self.path(reference)
        if isinstance(reference, HubFile) and not path.is_file():
            raise missing_files(self, [reference])
        if isinstance(reference, str) and _may_be_of_the_hub(reference) and not path.parent.exists():
            raise SuiteError(
                f"suite {self.name!r}: there is no file {reference!r} beside its suite.yaml; if it is a model on the "
                f"Hugging Face hub, write {{hub: {reference}}}"
            )
        if isinstance(reference, str) and is_adapter(path) and Path(reference).name != path.name:
            require_one_adapter(path.parent)
        promised = reference.sha256 if isinstance(reference, HubFile) else None
        return path, promised or promised_sha256(path)

    @cached_property
    def _checkpoints(self) -> dict[str, Checkpoint]:
        return {}

    def vectors(self, tasks: Sequence[str] | None = None) -> TaskVectors:
        """Task vectors of the chosen tasks (all that have a checkpoint by default)."""
        chosen = tuple(tasks) if tasks is not None else self.mergeable()
        if not chosen:
            raise missing_files(self, self.missing_weights(self.usual_tasks), "no checkpoint file was found")
        missing = self.missing_weights(chosen)
        if len(missing) > 1:
            raise missing_files(self, missing)
        return TaskVectors(self.base_checkpoint, tuple(self.checkpoint(name) for name in chosen), chosen)


def _may_be_of_the_hub(reference: str) -> bool:
    """Whether a path can be the id of a repository that somebody took for a path."""
    return is_hub_id(reference) and not weight_suffix(reference)


def missing_files(suite: Suite, missing: Sequence[FileReference], what: str = "") -> MissingPart:
    """The error for files of a suite that are not there: the places of all of them, and how to get them.

    Args:
        suite: the suite.
        missing: what it names.
        what: how the message begins, if not with the number of files.
    """
    local = [each for each in missing if isinstance(each, str)]
    remote = [in_cache(suite.path(each)) for each in missing if isinstance(each, HubFile)]
    count = "a file is missing" if len(missing) == 1 else f"{len(missing)} files are missing"
    parts = [f"suite {suite.name!r}: {what or count}"]
    if local:
        parts.append(f"put the files where its suite.yaml says: {', '.join(local)}")
    if remote:
        parts.append(
            f"merging download {suite.reference} gets what is on the hub; or put in the Hugging Face cache "
            f"(the folder {cache_folder().name!r}, moved by HF_HOME): {', '.join(remote)}"
        )
    return MissingPart("; ".join(parts))


def builtin_suites() -> dict[str, Path]:
    """Name → folder of the suites that ship with the package: the embedded ones, and those of published checkpoints."""
    here = Path(__file__).parent
    files = [*here.glob("*/suite.yaml"), *here.glob("published/*/suite.yaml")]
    return {path.parent.name: path.parent for path in sorted(files)}


def is_embedded(name: str) -> bool:
    """Whether a built-in suite comes with all of its files, not only with a description."""
    return name == DEFAULT or builtin_suites().get(name, Path()).resolve().parent == _EMBEDDED_IN


def reading_order(name: str) -> tuple[bool, bool, str]:
    """Sorts names of suites as people choose among them: the default, other embedded ones, all else."""
    return name != DEFAULT, not is_embedded(name), name


def downloaded_suites() -> dict[str, Path]:
    """Id → folder of the suites that were downloaded from the Hugging Face hub."""
    found = {}
    for repository in sorted(cache_folder().glob("models--*--*")):
        hub = "/".join(repository.name.split("--", 2)[1:])
        folder = snapshot(hub, "model")
        if is_hub_id(hub) and (folder / "suite.yaml").is_file():
            found[hub] = folder
    return found


def is_name(reference: str) -> bool:
    """Whether a reference is the name of a built-in suite or the id of one of the hub, and no path."""
    return reference in builtin_suites() or (is_hub_id(reference) and not path_of(reference).exists())


def reference_of(suite: Suite | str | os.PathLike[str]) -> str:
    """How a suite stands in a specification: its built-in name, the id that it was downloaded by, or its whole path.

    Raises:
        SuiteError: a suite was read from a file that is not called ``suite.yaml``, so that its folder does not tell it.
    """
    if not isinstance(suite, Suite):
        name = os.fspath(suite)
        return name if is_name(name) else str(path_of(name).resolve())
    if builtin_suites().get(suite.name) == suite.folder:
        return suite.name
    if not (suite.folder / "suite.yaml").is_file():
        raise SuiteError(f"suite {suite.name!r} was read from another file than suite.yaml; give the path of that file")
    return str((suite.folder / "suite.yaml").resolve())


def suite_file(reference: str | Path) -> Path:
    """Where the ``suite.yaml`` of a reference is, see :func:`load_suite`, or would be."""
    path = path_of(reference)
    if is_name(str(reference)):
        path = builtin_suites().get(str(reference)) or snapshot(str(reference), "model")
    return path / "suite.yaml" if path.is_dir() else path


def load_suite(reference: str | Path) -> Suite:
    """A suite by built-in name, by the path of a ``suite.yaml`` or its folder, or by the id that it was downloaded by.

    Raises:
        SuiteError: it does not exist, is not YAML, or breaks the schema; the message says where.

    >>> import merging
    >>> suite = merging.load_suite("mini")
    >>> suite.task_names[:3], suite.task("digits").label
    (('digits', 'fashion', 'housenumbers'), 'Handwritten digits')
    """
    if not str(reference).strip():
        raise SuiteError("no suite named: expected its name or the path of its suite.yaml, got an empty text")
    path = suite_file(reference)
    if path.parent.is_dir() and not path.is_file() and path_of(reference).is_dir():
        raise SuiteError(
            f"no suite.yaml in folder {path.parent.resolve().name!r}; `init-suite` writes one for checkpoints"
        )
    if path.is_file() and path.suffix not in (".yaml", ".yml"):
        raise SuiteError(f"{path.name}: no description of a suite; expected a suite.yaml, or the folder that it is in")
    if not path.is_file() and Path(reference).suffix in (".yaml", ".yml"):
        if path.exists():
            require_regular(path, SuiteError)
        named = "/".join(Path(reference).parts[-2:])
        raise SuiteError(f"no suite at {named!r}: there is no such file; expected the path of a suite.yaml")
    if not path.is_file():
        meant = id_in_address(str(reference)) or (str(reference) if is_hub_id(str(reference)) else "")
        hub = f"; merging download {meant} looks on the hub" if meant else ""
        known = builtin_suites()
        raise SuiteError(
            f"no suite {Path(reference).name!r}{nearest(reference, known)}: expected a built-in name "
            f"({', '.join(known) or 'none'}), the path of a suite.yaml, or the id owner/name of a model repository of "
            f"the hub{hub}"
        )
    content = read_yaml(path, SuiteError, MAX_SUITE_BYTES)
    if not isinstance(content, dict):
        held = "is empty" if content is None else "holds no names with values"
        raise SuiteError(f"{path.name}: {held}; expected name, architecture, base, tasks, …")
    if "folder" in content:
        raise SuiteError(f"{path.name}: unknown field 'folder'")
    try:
        return Suite.model_validate({**content, "folder": path.parent})
    except ValidationError as error:
        raise SuiteError(f"{path.name}: {_with_tasks(explain(error, known=Suite), content)}") from None


def _with_tasks(said: str, content: dict[str, Any]) -> str:
    """What is wrong with a file, with the names of tasks beside their numbers."""

    def named(place: re.Match[str]) -> str:
        tasks, number = content.get("tasks"), int(place[2])
        task = tasks[number] if isinstance(tasks, list) and number < len(tasks) else None
        name = task.get("name") if isinstance(task, dict) else None
        return f"{place[0]} (task {name[:60]!r})" if isinstance(name, str) and name else place[0]

    return re.sub(r"(^|; )tasks\.(\d{1,6})\b[\w.]*", named, said)  # where a sentence begins, not in what it quotes
