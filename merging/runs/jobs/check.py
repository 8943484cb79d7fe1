"""A job: checking every file of a suite and saying what is wrong with each, without stopping at the first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from merging.core import devices
from merging.core.errors import MergingError, MissingPart
from merging.core.progress import Progress, no_progress
from merging.core.text import counted
from merging.evaluation import clip
from merging.evaluation.accuracy import SAME_ACCURACY
from merging.evaluation.assumptions import assumptions
from merging.evaluation.evaluator import Evaluator
from merging.evaluation.heads import head_norm, odd_rows
from merging.evaluation.paired import TaskDifference, compare, in_points
from merging.evaluation.sanity import Sanity, floor, sanity
from merging.runs.jobs.file_job import FileJob
from merging.runs.jobs.job import Job, JobResult, Site
from merging.suites.architecture import ACTIVATIONS
from merging.suites.images.kinds import ImageFolderData
from merging.suites.images.suite_images import ImageSet, class_counts
from merging.suites.logit_scale import agree, looks_like_a_logarithm
from merging.suites.suite import Split, Suite, load_suite
from merging.suites.weight_facts import WeightFacts, compared, facts_of, is_far
from merging.weights.files import Checkpoint
from merging.weights.twins import identical
from merging.weights.vectors import TaskVectors

if TYPE_CHECKING:
    from merging.runs.workspace import Workspace

SPLITS: tuple[Split, Split] = ("val", "test")

# Test above validation: more than chance gives, and more than splits of one data set differ by.
_GAP = 0.05
_STANDARD_ERRORS = 4
_DEEP_IMAGES = 1000  # of a task, for two passes of its own model
_OFFER = "; `check --deep` tries the other activation"


@dataclass(frozen=True)
class Finding:
    """What looking at one thing of a suite gave.

    Attributes:
        file: the file, or what else was looked at.
        task: whose it is; None if all tasks share it.
        detail: what was seen, or the error.
        ok: whether it can be used.
        warnings: what is usable and yet odd.
        weights: for weight files that can be read.
        classes: for folders of images.
        lines: what an error shortens, in full.
    """

    file: str
    task: str | None
    detail: str
    ok: bool = True
    warnings: tuple[str, ...] = ()
    weights: WeightFacts | None = None
    classes: tuple[CheckedClass, ...] = ()
    lines: tuple[str, ...] = ()

    @property
    def row(self) -> CheckedFile:
        """As the report has it."""
        said = "; ".join([*(f"warning: {warning}" for warning in self.warnings), *filter(None, [self.detail])])
        return CheckedFile(
            file=self.file,
            task=self.task,
            ok=self.ok,
            warning=bool(self.warnings),
            detail=said,
            warnings=list(self.warnings),
            weights=self.weights,
            lines=list(self.lines),
        )


class CheckedClass(BaseModel):
    """A folder of a task's images, the class that it holds, and split → number of images."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    task: str
    folder: str
    label: int
    name: str
    images: dict[str, int]


class CheckedFile(BaseModel):
    """A line of the report: the attributes of a :class:`Finding`, with warnings also before the rest of ``detail``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    file: str
    task: str | None
    ok: bool
    warning: bool
    detail: str
    warnings: list[str] = Field(default_factory=list)
    weights: WeightFacts | None = None
    lines: list[str] = Field(default_factory=list)

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without lines where there are none, as of nearly all files."""
        return {name: value for name, value in dump(self).items() if name != "lines" or value}

    @property
    def status(self) -> Literal["error", "warning", "ok"]:
        """What a reader looks for first."""
        if not self.ok:
            return "error"
        return "warning" if self.warning else "ok"


class CheckReport(JobResult):
    """What a check found: a row a file, how many have a problem or a warning, and which folder is which class."""

    suite: str = ""
    files: list[CheckedFile] = Field(default_factory=list)
    folders: list[CheckedClass] = Field(default_factory=list)
    problems: int = 0
    warnings: int = 0


class CheckJob(FileJob):
    """Check a suite, and judge the accuracies that are known on a device.

    Attributes:
        suite: which, as :func:`merging.suites.load_suite` takes it.
        measured_on: the device whose known accuracies are judged, or where they are measured.
        deep: measure each task's own model under the other activation too.
        seen: what names the state of the suite's files for whoever asks.
    """

    result: ClassVar[type[CheckReport]] = CheckReport
    without: ClassVar[str] = "Nothing is known of the suite's files."
    job: Literal["check"] = "check"
    suite: str
    measured_on: str = "cpu"
    deep: bool = False
    seen: str = ""

    @property
    def label(self) -> str:
        """What to call it on screen."""
        return "Check of all files"

    def replaces(self, other: Job) -> bool:
        """A check replaces those of the same suite, whatever its files were."""
        return isinstance(other, CheckJob) and self == other.model_copy(update={"seen": self.seen, "deep": self.deep})

    def run(self, site: Site) -> CheckReport:
        """Open everything that the suite names."""
        device = devices.resolve(self.measured_on)
        found = check_suite(load_suite(self.suite), self.step(site), site.workspace, device, deep=self.deep)
        return found.model_copy(update={"label": self.label})


def check_suite(
    suite: Suite,
    on_progress: Progress = no_progress,
    workspace: Workspace | None = None,
    device: torch.device | None = None,
    measure: bool = False,
    try_models: bool = True,
    deep: bool = False,
) -> CheckReport:
    """Open everything a suite names, and try each task's own model on some of its images.

    Args:
        suite: what to check.
        on_progress: called task by task.
        workspace: where accuracies of the fine-tuned models may be known; those are judged too.
        device: where accuracies are measured, or were.
        measure: measure those accuracies that are not known; needs a workspace.
        try_models: see :mod:`merging.evaluation.sanity`; some seconds a task.
        deep: measure each task's own model under the other activation too.
    """
    where = device or torch.device("cpu")
    evaluator = workspace.evaluator(suite, where) if workspace else Evaluator(suite, where)
    check = _Check(suite, evaluator, workspace, measure, try_models)
    findings = [check.base()]
    check.base_is_sound = findings[0].ok
    if check.base_is_sound:
        findings.append(_finding("architecture", None, check.architecture))
        check.buildable = findings[-1].ok
    here = {*suite.usual_tasks, *suite.mergeable()}
    tasks = [name for name in suite.task_names if name in here]
    for done, name in enumerate(tasks):
        on_progress(done, len(tasks), f"checking {name}")
        findings += check.task(name)
    if further := [name for name in suite.task_names if name not in here]:
        detail = f"not checked, as their models are not here and are not among the usual ones: {', '.join(further)}"
        findings.append(Finding("further tasks", None, detail))
    if deep and check.buildable and check.base_is_sound:
        findings += check.other_activation(on_progress)
    return CheckReport(
        suite=suite.name,
        files=[finding.row for finding in findings],
        folders=[one for finding in findings for one in finding.classes],
        problems=sum(not finding.ok for finding in findings),
        warnings=sum(bool(finding.warnings) for finding in findings),
    )


@dataclass
class _Check:
    """One look at a suite, and what was seen of it so far."""

    suite: Suite
    evaluator: Evaluator
    workspace: Workspace | None
    measure: bool
    try_models: bool
    base_is_sound: bool = False
    buildable: bool = True  # a broken base can't be tried
    seen: dict[str, str] = field(default_factory=dict)  # fingerprint → first task with that file

    @cached_property
    def twins(self) -> dict[str, str]:
        """Task → the first one whose model has the same weights, for those that have such a twin before them."""
        base, sound = self.suite.base_checkpoint, {}
        for task in self.suite.mergeable():
            with suppress(MergingError):  # what is wrong with it stands in its own row
                sound[task] = TaskVectors(base, (self.suite.checkpoint(task),), (task,)).checkpoints[0]
        return {later: group[0] for group in identical(sound) for later in group[1:]}

    def base(self) -> Finding:
        return _finding(str(self.suite.base), None, self._base, needed=True)

    def _base(self) -> Finding:
        facts = facts_of(self.suite.base_checkpoint)
        return Finding(str(self.suite.base), None, facts.text, weights=facts)

    def architecture(self) -> Finding:
        found = assumptions(self.suite)
        if any(task.data for task in self.suite.tasks):
            _ = self.evaluator.tower  # built, and loaded with the base model
        size = self.evaluator.input.size
        detail = f"{self.suite.architecture_label}, images of {size} × {size} pixels; {found.text}"
        return Finding("architecture", None, detail + _OFFER * found.guessed, warnings=found.warnings)

    def task(self, name: str) -> Iterator[Finding]:
        task = self.suite.task(name)
        if task.checkpoint is None:
            yield _warned("checkpoint", name, "none named: the task can be evaluated, not merged")
        else:
            file = str(task.checkpoint)
            yield _finding(file, name, partial(self._fine_tuned, name, file), needed=True)
        if task.data is None:
            yield _warned("images", name, "none named: no accuracy for this task")
            return
        if not self.buildable:
            return  # heads and images are checked against the architecture
        found = self._head_and_images(name, task.data.title)
        yield from found
        if isinstance(task.data, ImageFolderData):
            yield from self._class_folders(name, task.data.title)
        # what is missing is a warning without a detail
        sound = self.base_is_sound and all(finding.ok and finding.detail for finding in found)
        if sound and task.checkpoint is not None:
            yield from self._accuracy(name, str(task.checkpoint))
        if self.base_is_sound and all(finding.ok for finding in found) and task.checkpoint is not None:
            yield from self._tried(name, str(task.checkpoint))

    def _head_and_images(self, name: str, title: str) -> list[Finding]:
        """Head, if there is one, and both splits, each judged by itself: one that is broken is one problem."""
        head = self.suite.task(name).head

        def images(look: Callable[[str, Split], ImageSet]) -> list[Finding]:
            def count(split: Split) -> Finding:
                images = look(name, split)
                detail = "; ".join([counted(len(images), "image"), *images.origin.said])
                warnings = (*filter(None, [images.origin.unread]), *images.origin.odd)
                return Finding(f"{title} ({split})", name, detail, warnings=warnings)

            return [_finding(f"{title} ({split})", name, partial(count, split)) for split in SPLITS]

        if head is not None:
            found = _finding(str(head), name, partial(self._head, name, str(head)))
            return [found, *images(self.evaluator.image_set if found.ok else self.evaluator.bare_images)]
        splits = images(self.evaluator.bare_images)
        if not all(finding.ok and finding.detail for finding in splits):
            return splits  # building a head from text takes a while, and is of use with images only
        return [_finding("head from text", name, partial(self._head, name, "head from text")), *splits]

    def _class_folders(self, name: str, title: str) -> Iterator[Finding]:
        """Which folder is which class, with the images of both splits; what is wrong stands in the splits' rows."""
        rows: dict[tuple[int, str, str], dict[str, int]] = {}
        how: dict[str, None] = {}
        for split in SPLITS:
            with suppress(MergingError):
                origin, counts = class_counts(self.suite, name, split)
                how[origin.how] = None
                for one in counts:
                    rows.setdefault((one.label, one.folder or "", one.name), {})[split] = one.images
        if rows:
            classes = [
                CheckedClass(task=name, folder=folder, label=label, name=of_class, images=images)
                for (label, folder, of_class), images in sorted(rows.items())
            ]
            detail = f"{counted(len(rows), 'folder')}, {'; '.join(how)}"
            yield Finding(f"{title}: class folders", name, detail, classes=tuple(classes))

    def _tried(self, name: str, file: str) -> Iterator[Finding]:
        """How often the task's own model is right, which needs nobody's word on what is right."""
        if not self.try_models or not self.suite.measurable(name):
            return
        with suppress(MergingError):  # the row of the file, head or images says what is wrong
            found = self._sanity(name)
            yield Finding(f"{file} on its images", name, found.text, warnings=tuple(filter(None, [found.warning])))

    def _sanity(self, name: str) -> Sanity:
        checkpoint = self.suite.checkpoint(name)
        if self.workspace is not None:
            known = self.workspace.known_accuracy(self.evaluator, checkpoint, name, "test")
            classes = len(self.evaluator.head(name))
            if known is not None and known >= floor(classes):
                return Sanity(known, self.evaluator.count(name, "test"), classes)
        return sanity(self.evaluator, checkpoint, name)

    def _head(self, name: str, file: str) -> Finding:
        head = self.evaluator.head(name)
        warnings = (*odd_rows(head, self.suite.task(name).classes), *self._odd_norm(name))
        return Finding(file, name, f"head {list(head.shape)}", warnings=warnings)

    def _odd_norm(self, name: str) -> Iterator[str]:
        """A head whose rows were multiplied by another factor than the suite's; what counts is the suite's."""
        norm, scale = head_norm(self.suite, name), self.suite.logit_scale
        if norm is None or agree(norm, 1) or agree(norm, scale):
            return
        what = f"rows of norm {norm:.4g}, the suite's logit_scale is {scale:g}: rows are made 1 and the latter is taken"
        yield f"{what}; {norm:.4g} looks like a logarithm of a scale" if looks_like_a_logarithm(norm) else what

    def _fine_tuned(self, name: str, file: str) -> Finding:
        checkpoint = self.suite.checkpoint(name)
        facts = facts_of(checkpoint)
        if not self.base_is_sound:
            return Finding(file, name, f"{facts.text}; not compared with the base, which is broken", weights=facts)
        base = self.suite.base_checkpoint
        facts = compared(facts, base, checkpoint, name)
        warnings = (*checkpoint.notes, *self._oddities(name, facts, base))
        return Finding(file, name, facts.text, warnings=warnings, weights=facts)

    def _oddities(self, name: str, facts: WeightFacts, base: Checkpoint) -> Iterator[str]:
        """What is usable and yet hardly meant."""
        if facts.changed == 0:
            elsewhere = facts.fingerprint != base.fingerprint and facts.dropped
            yield "equal to the base model" + (": it can differ in its text tower at most" if elsewhere else "")
        twin = self.seen.setdefault(facts.fingerprint, name)
        if twin != name:
            yield f"the same file as task {twin!r}"
        elif name in self.twins:
            yield f"the same weights as task {self.twins[name]!r}, in another file"
        if facts.relative_difference is not None and is_far(facts.relative_difference):
            yield is_far(facts.relative_difference)

    def _accuracy(self, name: str, file: str) -> Iterator[Finding]:
        """Fine-tuned accuracy on both splits, where it is known or to be measured, compared."""
        if self.workspace is None or not self.suite.measurable(name):
            return
        try:
            known = [self._accuracy_on(name, split) for split in SPLITS]
        except MergingError as error:
            if self.measure:  # else the row of the file or head says what is wrong
                yield Finding(f"accuracy of {file}", name, str(error), ok=False)
            return
        val, test = known
        if val is not None and test is not None:
            warning = gap_warning(val, self.evaluator.count(name, "val"), test, self.evaluator.count(name, "test"))
            detail = f"fine-tuned model: test {100 * test:.1f} %, validation {100 * val:.1f} %"
            yield Finding(f"accuracy of {file}", name, detail, warnings=(warning,) if warning else ())

    def other_activation(self, on_progress: Progress) -> Iterator[Finding]:
        """Each task's own model under the activation that the suite has and under the other one, on the same images."""
        own: dict[str, np.ndarray] = {}
        other: dict[str, np.ndarray] = {}
        tasks = [task for task in self.suite.mergeable() if self.suite.measurable(task)]
        for done, task in enumerate(tasks):
            on_progress(done, len(tasks), f"trying the other activation on {task}")
            with suppress(MergingError):  # what is wrong with it stands in its own row
                own[task], other[task] = self._under_both(task)
        if own:
            compared_tasks = compare(own, [other])[0].tasks
            yield from (self._judged(task, one) for task, one in compared_tasks.items())

    def _under_both(self, task: str) -> tuple[np.ndarray, np.ndarray]:
        split = self._split(task)
        labels = self.evaluator.image_set(task, split).labels
        chosen = self.evaluator.draw(task, split, _DEEP_IMAGES, seed=0)
        self.evaluator.load(self.suite.checkpoint(task))
        own = self.evaluator.predictions(task, split, chosen) == labels[chosen]
        with clip.other_activation(self.evaluator.tower):
            return own, self.evaluator.predictions(task, split, chosen) == labels[chosen]

    def _split(self, task: str) -> Split:
        """Validation images, where there are any."""
        try:
            self.evaluator.image_set(task, "val")
        except MissingPart:
            return "test"
        return "val"

    def _judged(self, task: str, one: TaskDifference) -> Finding:
        first, second = ACTIVATIONS.values() if self.suite.quick_gelu else reversed(ACTIVATIONS.values())
        images = counted(one.images, f"{'validation' if self._split(task) == 'val' else 'test'} image")
        detail = f"{100 * one.reference:.1f} % with {first}, {100 * one.accuracy:.1f} % with {second}, on {images}"
        warning = (
            f"its own model does better with {second} ({in_points(one)}, p = {one.adjusted:.2g}): the activation is "
            "probably wrong; correct it in suite.yaml"
        )
        warnings = (warning,) if one.verdict == "better" else ()
        return Finding(f"activation of {self.suite.task(task).checkpoint}", task, detail, warnings=warnings)

    def _accuracy_on(self, name: str, split: Split) -> float | None:
        assert self.workspace is not None
        checkpoint = self.suite.checkpoint(name)
        if self.measure:
            return self.workspace.accuracy_of(self.evaluator, checkpoint, [name], split).per_task[name]
        return self.workspace.known_accuracy(self.evaluator, checkpoint, name, split)


def gap_warning(val: float, val_images: int, test: float, test_images: int) -> str:
    """What to say of a fine-tuned model that does better on test than on validation; empty if nothing.

    Both accuracies are 0 … 1. Test images that were in the training data show in this way: one published model of
    DTD has 98 % on test and 78.5 % on validation.

    >>> gap_warning(0.785, 1880, 0.98, 1880)[:44]
    'test accuracy is far above validation accura'
    >>> gap_warning(0.97, 250, 0.98, 400)
    ''
    """
    error = math.sqrt(val * (1 - val) / val_images + test * (1 - test) / test_images)
    if test - val <= max(_GAP, _STANDARD_ERRORS * error) + SAME_ACCURACY:
        return ""
    return (
        f"test accuracy is far above validation accuracy ({100 * test:.1f} % against {100 * val:.1f} %); "
        "test images may have been in the training data"
    )


def _finding(file: str, task: str | None, look: Callable[[], str | Finding], needed: bool = False) -> Finding:
    """What a look gave; what is missing is a problem where it is ``needed``, and odd elsewhere."""
    try:
        found = look()
    except MergingError as error:
        if isinstance(error, MissingPart) and not needed:
            return _warned(file, task, str(error))
        return Finding(file, task, str(error), ok=False, lines=error.lines)
    return found if isinstance(found, Finding) else Finding(file, task, found)


def _warned(file: str, task: str | None, warning: str) -> Finding:
    return Finding(file, task, "", warnings=(warning,))
