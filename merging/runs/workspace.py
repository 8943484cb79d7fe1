"""One folder with everything that was computed: runs, Gram matrices, preprocessed images, accuracies.

A :class:`Workspace` ties a suite's files to those caches, so that nothing is computed twice for the same content.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from merging.core.errors import CheckpointError, NonFiniteWeights, RunError
from merging.evaluation.accuracy import Accuracy, joined
from merging.evaluation.evaluator import Evaluator, evaluation_key
from merging.methods.context import Context
from merging.runs.jobs import Job
from merging.runs.run import Run
from merging.runs.shipped import Shipped
from merging.runs.table import RunStore
from merging.suites.images.cache import DEFAULT_LIMIT
from merging.suites.images.folders import folder_fingerprint
from merging.suites.images.shifts import CLEAN, AnyShift
from merging.suites.images.suite_images import reading
from merging.suites.suite import Split, Suite
from merging.suites.weight_facts import far_from
from merging.weights import geometry
from merging.weights.files import Checkpoint, file_fingerprint, open_checkpoint
from merging.weights.files.adapters import adapter_in, is_adapter, open_on
from merging.weights.geometry import Geometry
from merging.weights.localised import is_localised, task_weights
from merging.weights.vectors import TaskVectors, require_model


@dataclass(frozen=True)
class Workspace:
    """Caches and runs under one folder.

    Attributes:
        home: the folder.
        image_limit: bytes that prepared images may take in it.
        shipped: files of results that came with suites, see :mod:`merging.runs.shipped`.
    """

    home: Path
    image_limit: int = DEFAULT_LIMIT
    shipped: tuple[Path, ...] = ()

    @cached_property
    def store(self) -> RunStore:
        """The table of runs."""
        return RunStore(self.home, Shipped(self.shipped))

    @property
    def cache(self) -> Path:
        """Folder for what can be computed again."""
        return self.home / "cache"

    def fingerprint(self, checkpoint: Checkpoint) -> str:
        """Content fingerprint of a weight file, remembered until the file changes."""
        checkpoint.fingerprint = checkpoint.fingerprint_by(self._file_fingerprint)
        return checkpoint.fingerprint

    def _file_fingerprint(self, path: Path) -> str:
        known = self.store.known_fingerprint(path)
        if known is None:
            known = file_fingerprint(path)
            self.store.remember_fingerprint(path, known)
        return known

    def vectors(self, suite: Suite, tasks: Sequence[str] | None = None) -> TaskVectors:
        """Task vectors whose files' fingerprints are known."""
        vectors = suite.vectors(tasks)
        self.fingerprint(vectors.base)  # first, as those of adapters are made with it
        new = [one for one in vectors.checkpoints if not all(map(self.store.known_fingerprint, one.files))]
        if len(new) > 1:
            with ThreadPoolExecutor() as pool:  # hashing a file needs one core
                list(pool.map(self.fingerprint, new))
        for one in vectors.checkpoints:
            self.fingerprint(one)
        return vectors

    def geometry(self, suite: Suite, tasks: Sequence[str] | None = None, context: Context | None = None) -> Geometry:
        """Gram matrices of the chosen tasks, cut from those of all sound ones, which are measured once.

        Raises:
            CheckpointError: the base is broken, or the model of a chosen task.
        """
        wanted = suite.mergeable() if tasks is None else tuple(tasks)
        broken = self.broken(suite, context)
        sound = tuple(task for task in suite.mergeable() if task not in broken)
        measured = sound if set(wanted) <= set(sound) else wanted  # which raises what is wrong with one of them
        return geometry.cached(self.vectors(suite, measured), self.cache, context).select(wanted)

    def broken(self, suite: Suite, context: Context | None = None) -> dict[str, str]:
        """Tasks whose model is there and can't be merged, with the reason: unreadable, of other shapes, NaN.

        The weights are read once for this, by measuring their geometry.

        Raises:
            CheckpointError: the base is broken, so that nothing can be said of the others.
        """
        base, reasons = suite.base_checkpoint, {}
        for task in suite.mergeable():
            try:
                TaskVectors(base, (suite.checkpoint(task),), (task,))
            except CheckpointError as error:
                reasons[task] = str(error)
        fitting = [task for task in suite.mergeable() if task not in reasons]
        try:
            if fitting:
                geometry.cached(self.vectors(suite, fitting), self.cache, context)
        except NonFiniteWeights:
            base.require_finite()
            for task in fitting:
                try:
                    suite.checkpoint(task).require_finite()
                except NonFiniteWeights as error:
                    reasons[task] = str(error)
        return reasons

    def evaluator(
        self,
        suite: Suite,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        shift: AnyShift = CLEAN,
    ) -> Evaluator:
        """An evaluator that keeps prepared images, and heads built from text, in this workspace."""
        return Evaluator(suite, device or torch.device("cpu"), dtype, self.cache, self.image_limit, shift)

    def accuracy_of(
        self,
        evaluator: Evaluator,
        checkpoint: Checkpoint,
        tasks: Sequence[str],
        split: Split = "test",
        context: Context | None = None,
    ) -> Accuracy:
        """Accuracy of one weight file on some tasks; each is evaluated once per weights, images and head."""
        evaluator.require(tasks, split)
        known = {task: self.known_accuracy(evaluator, checkpoint, task, split) for task in tasks}
        missing = [task for task in tasks if known[task] is None]
        if missing:
            try:
                fresh = evaluator.accuracy(checkpoint, missing, split, context)
            except NonFiniteWeights:
                checkpoint.require_finite()  # names file and tensor if they are to blame
                raise
            for task in missing:
                known[task] = fresh.per_task[task]
                key = self._accuracy_key(evaluator, checkpoint, task, split)
                self.store.remember_accuracy(key, {"accuracy": fresh.per_task[task]})
        return Accuracy(
            {task: value for task, value in known.items() if value is not None},
            {task: evaluator.count(task, split) for task in tasks},
            split,
            evaluator.skipped_of(tasks, split),
        )

    def known_accuracy(self, evaluator: Evaluator, checkpoint: Checkpoint, task: str, split: Split) -> float | None:
        """Accuracy of a weight file on a task, if it was measured before on such a device in such a precision."""
        known = self.store.known_accuracy(self._accuracy_key(evaluator, checkpoint, task, split))
        return None if known is None else float(known["accuracy"])

    def file_accuracy(self, evaluator: Evaluator, file: Path, tasks: Sequence[str], split: Split = "test") -> Accuracy:
        """Accuracy of a weight file: of the model in it, or of each task's own where it holds localised models.

        Raises:
            CheckpointError: the file can't be used, its models belong to another base, or it is no model but the
                difference of one from its base.
            SpecError: it holds no model for one of the tasks.
        """
        base = evaluator.suite.base_checkpoint
        opened = _model_in(evaluator.suite, file)
        if opened is not None:
            require_model(base, opened, opened.path.name)
            return self.accuracy_of(evaluator, opened, tasks, split)
        self.fingerprint(base)
        return joined([evaluator.accuracy(task_weights(base, file, task), [task], split) for task in tasks])

    def file_oddities(self, suite: Suite, file: Path) -> list[str]:
        """What to say of a weight file beside its accuracy: its notes; that it is hardly fine-tuned from the base."""
        opened = _model_in(suite, file)
        return [] if opened is None else [*opened.notes, *filter(None, [far_from(suite.base_checkpoint, opened)])]

    def base_accuracy(
        self, evaluator: Evaluator, tasks: Sequence[str], split: Split = "test", context: Context | None = None
    ) -> Accuracy:
        """Zero-shot accuracy: the base model on every task."""
        return self.accuracy_of(evaluator, evaluator.suite.base_checkpoint, tasks, split, context)

    def individual_accuracy(
        self, evaluator: Evaluator, tasks: Sequence[str], split: Split = "test", context: Context | None = None
    ) -> Accuracy:
        """Accuracy of every fine-tuned model on its own task.

        Raises:
            CheckpointError: a file can't be used, or is no model but the difference of one from its base.
        """
        parts = []
        for done, task in enumerate(tasks):
            if context is not None:
                context.step(done, len(tasks), f"evaluating on {task} with its own model")
            model = evaluator.suite.checkpoint(task)
            require_model(evaluator.suite.base_checkpoint, model, f"{model.path.name} (task {task!r})")
            parts.append(self.accuracy_of(evaluator, model, [task], split))
        return joined(parts)

    def find(self, job: Job) -> Run | None:
        """The run that does, did, or last failed to do exactly this on the files as they are; None if there is none.

        Raises:
            MergingError: a file is missing or broken.
        """
        return self.store.find(job.fingerprint(self))

    def submit(self, job: Job, person: str = "") -> Run:
        """Queue a job, or give the run that already does, or did, exactly this.

        Args:
            job: what to do.
            person: who asks, where several people share a dashboard.

        Raises:
            MergingError: a file is missing or broken, so that bad input is refused before anything is queued.
        """
        fingerprint = job.fingerprint(self)
        known = self.store.find(fingerprint)
        if known is not None and (known.active or (known.state == "done" and not job.anew)):
            return known
        self.store.forget(job)
        return self.store.submit(job, fingerprint, person)

    def again(self, run_id: str, person: str = "") -> Run:
        """Queue what a finished run did once more: in its place, unless the files are others or it came with its suite.

        Args:
            run_id: which.
            person: as in :meth:`submit`.

        Raises:
            RunError: there is no such run, or it is running.
            MergingError: a file is missing or broken.
        """
        run = self.store.get(run_id)
        fingerprint = run.job.fingerprint(self)
        if run.shipped or fingerprint != run.fingerprint:
            return self.submit(run.job, person)
        return self.store.replace(run.id, run.job, fingerprint, person)

    def retry(self, run_id: str) -> Run:
        """Queue the same job again, on the files as they are now, after it failed, was cancelled or lost.

        Raises:
            RunError: it is still active, or done.
            MergingError: a file is missing or broken.
        """
        run = self.store.get(run_id)
        if run.active or run.state == "done":
            raise RunError(f"run {run_id} is {run.state}; only failed, cancelled or lost runs can be retried")
        return self.submit(run.job)

    def evaluation_files(self, suite: Suite, task_name: str) -> list[str]:
        """Fingerprints of head, text tower and images of a task; of an image folder by names, sizes and times."""
        task = suite.task(task_name)
        prints = []
        head, text = (
            suite.weight_files(relative) if relative is not None else () for relative in (task.head, suite.text_tower)
        )
        for path in (*head, suite.images_path(task_name), *text):
            if path is not None and path.is_file():
                prints.append(self._file_fingerprint(path))
            elif path is not None and path.is_dir():
                prints.append(folder_fingerprint(path, path.rglob("*")))
        how = reading(task.data, task.folders)
        return [*prints, how] if how else prints

    def _accuracy_key(self, evaluator: Evaluator, checkpoint: Checkpoint, task: str, split: Split) -> str:
        files = [checkpoint] if checkpoint.lender is None else [checkpoint, checkpoint.lender]
        return evaluation_key([self.fingerprint(file) for file in files], evaluator, task, split)


def _model_in(suite: Suite, file: Path) -> Checkpoint | None:
    """The one model in a weight file, or that an adapter makes of the base; None of a file of localised models."""
    file = adapter_in(file) or file
    if is_localised(file):
        return None
    base = suite.base_checkpoint
    fits = is_adapter(file)  # folded into a base of the suite's size
    return open_on(base, file) if fits else suite.fitted(open_checkpoint(file)).completed(base)
