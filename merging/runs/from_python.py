"""What programs and notebooks call: load, look, merge, evaluate, with the defaults of the command line.

The public face of the package (``import merging``) offers these functions; tables and figures of what they return are
made by :mod:`merging.charts.results`. All of them keep what they computed in the workspace of the command line and the
dashboard, so that nothing is done twice and every run shows on the page Runs.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from merging.core import devices
from merging.core.errors import MissingPart, SpecError
from merging.core.places import chosen_home, path_of
from merging.core.progress import Progress
from merging.core.wording import nearest
from merging.evaluation.accuracy import Accuracy, skipped_in_words
from merging.methods import own, presets
from merging.methods.context import Context
from merging.runs import leaderboard as boards
from merging.runs.export import recipe as recipes
from merging.runs.export.export import export_run
from merging.runs.export.weights import require_done
from merging.runs.foreground import run_here
from merging.runs.jobs.merge import MergeSpec
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.progress_bar import shown
from merging.runs.run import Run
from merging.runs.similarity import similarity_report
from merging.runs.workspace import Workspace
from merging.suites.images.shifts import CLEAN
from merging.suites.suite import Split, Suite, load_suite, reference_of
from merging.weights.files.writing import Form, WrittenDtype, WrittenLayout
from merging.weights.twins import notes_of

AnySuite = Suite | str | os.PathLike[str]
AnyPath = str | os.PathLike[str]
Precision = Literal["float32", "bfloat16", "float16"]
BASE, INDIVIDUAL = "base", "individual"
_told: list[own.Problem] = []  # which warnings a program was given already


@dataclass(frozen=True)
class Similarity:
    """How T task vectors lie to each other, before and after an edit.

    Attributes:
        edit: the edit's name.
        labels: task → what to call it, in the order of rows and columns.
        cosines_before: of the task vectors, ``[T, T]``.
        cosines_after: of the edited ones, ``[T, T]``.
        norms_before: of the task vectors over the whole model, ``[T]``.
        norms_after: of the edited ones, ``[T]``.
        mean_abs_before: mean |cos| over pairs of tasks.
        mean_abs_after: the same after the edit.
        report: what the edit says of itself; of AWD its coefficients and its objective.
    """

    edit: str
    labels: Mapping[str, str]
    cosines_before: np.ndarray
    cosines_after: np.ndarray
    norms_before: np.ndarray
    norms_after: np.ndarray
    mean_abs_before: float
    mean_abs_after: float
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def before(self) -> pd.DataFrame:
        """Cosines of the task vectors, a row and a column a task."""
        return pd.DataFrame(self.cosines_before, index=list(self.labels), columns=list(self.labels))

    @property
    def after(self) -> pd.DataFrame:
        """Cosines of the edited task vectors, a row and a column a task."""
        return pd.DataFrame(self.cosines_after, index=list(self.labels), columns=list(self.labels))


@dataclass(frozen=True)
class Merged:
    """A finished merge.

    Attributes:
        run: its row in the table of runs, with everything that is known of it.
        labels: task → what to call it, of all tasks of the suite.
        workspace: where the run is kept.
    """

    run: Run
    labels: Mapping[str, str]
    workspace: Workspace

    @property
    def id(self) -> str:
        """The run's id, as for ``merging runs show``."""
        return self.run.id

    @property
    def label(self) -> str:
        """What the method is called."""
        return self.run.label

    @property
    def accuracy(self) -> dict[str, float]:
        """Task → top-1 accuracy, 0 … 1; of a model that forgets on its bystanders too; empty if not evaluated."""
        return self._result.measured if self._result.accuracy else {}

    @property
    def average(self) -> float | None:
        """Mean accuracy over the tasks that are not to be forgotten, 0 … 1; None if not evaluated."""
        return self._result.score if self._result.accuracy else None

    @property
    def unseen(self) -> dict[str, float]:
        """Task that was not merged → top-1 accuracy, 0 … 1; empty where none was asked for."""
        return {} if self._result.unseen is None else self._result.unseen.accuracy

    @property
    def split(self) -> Split:
        """Which images accuracy was measured on."""
        return self.run.spec.split

    @property
    def images(self) -> str:
        """The same with what was done to them: ``test``, ``val``, or ``test`` and a shift."""
        return self.run.spec.images

    @property
    def scaling(self) -> float | None:
        """λ where it was chosen on validation images."""
        return self._result.merge.scaling

    @property
    def coefficients(self) -> pd.DataFrame | None:
        """What every task vector is multiplied with in every tensor, a column a task; None of a run that is not linear.

        Weights of a linear run are θ₀ + Σ c τ with these c.
        """
        found = self._result.coefficients
        if found is None:
            return None
        return pd.DataFrame(np.array(found.table).T, index=found.tensors, columns=found.tasks)

    @property
    def warnings(self) -> list[str]:
        """Sentences on what was hardly meant, such as a model that is equal to the base."""
        left_out = skipped_in_words(self._result.skipped)
        return [*self.run.warnings, *([left_out] if left_out else [])]

    @property
    def seconds(self) -> float:
        """From files to accuracy."""
        return self._result.seconds["total"]

    @property
    def _result(self) -> MergeResult:
        return require_done(self.run)


@dataclass(frozen=True)
class Evaluated:
    """Accuracies of models that no merge made just now.

    Attributes:
        name: what they are called in tables and charts.
        labels: task → what to call it, of all tasks of the suite.
        measured: the accuracies, with numbers of images.
        warnings: what is odd about weight files and images, in sentences.
    """

    name: str
    labels: Mapping[str, str]
    measured: Accuracy
    warnings: Sequence[str] = ()

    @property
    def accuracy(self) -> dict[str, float]:
        """Task → top-1 accuracy, 0 … 1."""
        return self.measured.per_task

    @property
    def average(self) -> float:
        """Mean over the tasks, 0 … 1."""
        return self.measured.average

    @property
    def split(self) -> str:
        """Which images it was measured on."""
        return self.measured.split

    @property
    def images(self) -> str:
        """The same: nothing is done to these images."""
        return self.split


def similarity(
    suite: AnySuite,
    edit: str = "awd",
    parameters: Mapping[str, Any] | None = None,
    *,
    tasks: Sequence[str] | None = None,
    device: str = "auto",
    home: AnyPath | None = None,
    on_progress: Progress | None = None,
) -> Similarity:
    """Cosines of the task vectors of a suite before and after an edit, over the whole model.

    Args:
        suite: from :func:`load_suite`, or what that takes.
        edit: ``awd``, or another edit that ``merging methods`` lists.
        parameters: of the edit, such as ``{"edit.alpha": 0.1}``.
        tasks: names; all with a checkpoint by default.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        home: folder for caches, see :func:`merging.core.places.chosen_home`.
        on_progress: called with steps done, steps in all, and what is going on; by default a bar on a terminal or in a
            notebook.

    Raises:
        MergingError: there is no such suite, task, edit or parameter, or a checkpoint is broken.

    >>> import merging
    >>> look = merging.similarity("mini", "awd", {"edit.scope": "layer"}, tasks=["digits", "letters", "shapes"])
    >>> look.after.shape, look.mean_abs_after < look.mean_abs_before
    ((3, 3), True)
    """
    loaded, workspace = _loaded(suite), _workspace(home)
    given = _by_stage(parameters)
    if given["merge"]:
        raise SpecError(f"similarity takes parameters of the edit only, got {sorted(given['merge'])} for the merge")
    chosen = _tasks(loaded, tasks)
    with shown(on_progress) as report:
        found = similarity_report(loaded, workspace, chosen, edit, given["edit"], device, report)
    before, after = found["before"], found["after"]
    return Similarity(
        edit,
        loaded.task_labels(chosen),
        np.array(before["cosine"]),
        np.array(after["cosine"]),
        np.array(before["norms"]),
        np.array(after["norms"]),
        before["mean_abs"],
        after["mean_abs"],
        found.get(edit) or {},
    )


def merge(
    suite: AnySuite,
    method: str | tuple[str, str] = "task_arithmetic",
    parameters: Mapping[str, Any] | None = None,
    *,
    tasks: Sequence[str] | None = None,
    evaluate: bool = True,
    split: Split = "test",
    shift: str = CLEAN,
    unseen: Sequence[str] | Literal["rest"] = (),
    output: AnyPath | None = None,
    layout: WrittenLayout = "open_clip",
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "float32",
    home: AnyPath | None = None,
    on_progress: Progress | None = None,
) -> Merged:
    """Merge the task models of a suite, and measure what comes of it; what was done before is not done again.

    Args:
        suite: from :func:`load_suite`, or what that takes.
        method: a published method such as ``awd_ta``, see ``merging methods``; or a pair of an edit and a merge, such
            as ``("ties", "iso_c")``, with ``none`` for no edit.
        parameters: of both, such as ``{"edit.alpha": 0.1, "merge.scaling": "auto"}``; they come before a published
            method's own. ``auto`` is chosen on labelled validation images.
        tasks: names; all with a checkpoint by default.
        evaluate: whether to measure accuracy, for which every task needs images and a head.
        split: on which images, ``test`` or ``val``.
        shift: what is done to the test images, such as ``gaussian_noise:3``, a corruption and its severity; what adapts
            on test images adapts on these, λ is chosen on clean validation images all the same.
        unseen: further tasks to measure that are not merged, by name; ``rest`` for all that have images and a head.
        output: file for the weights, ``.safetensors``.
        layout: whose names the file has, ``open_clip`` or ``huggingface``.
        seed: of whatever a method draws.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: of forward passes; merging is float32. The file of ``output`` has the base's type whatever this is:
            for another, see :func:`export`.
        home: folder for runs and caches, see :func:`merging.core.places.chosen_home`.
        on_progress: called with steps done, steps in all, and what is going on; by default a bar on a terminal or in a
            notebook.

    Raises:
        MergingError: there is no such suite, task, method or parameter, a file is broken, or images are lacking.

    >>> import merging
    >>> merged = merging.merge("mini", ("awd", "task_arithmetic"), {"merge.scaling": 0.4}, tasks=["digits", "shapes"])
    >>> merged.label, sorted(merged.accuracy), merged.average > 0.7
    ('AWD + Task Arithmetic', ['digits', 'shapes'], True)
    >>> merged.coefficients.shape[1]
    2
    >>> further = merging.merge("mini", "average", tasks=["digits", "shapes"], unseen=["signs"], shift="contrast:1")
    >>> list(further.unseen), further.images
    (['signs'], 'test · Contrast, severity 1')
    """
    _one_of("precision", precision, Precision)
    loaded, workspace = _loaded(suite), _workspace(home)
    chosen = _tasks(loaded, tasks)
    spec = MergeSpec.build(
        suite=reference_of(suite),
        tasks=chosen,
        shift=shift,
        unseen=_unseen(loaded, chosen, unseen),
        **presets.method_fields(_method(method), _by_stage(parameters)),
        split=split,
        seed=seed,
        device=str(devices.resolve(device)),
        dtype=precision,
        evaluate=evaluate,
    )
    lacking = [task for task in spec.tasks if not loaded.measurable(task)]
    if evaluate and lacking:
        raise MissingPart(
            f"tasks {lacking} lack images or a head, so that accuracy can't be measured; add them in suite.yaml, "
            "choose other tasks, or merge with evaluate=False"
        )
    with shown(on_progress) as report:
        run = run_here(spec, workspace, None if output is None else path_of(output), report, Form(layout))
    return Merged(run, loaded.task_labels(loaded.task_names), workspace)


def evaluate(
    suite: AnySuite,
    model: AnyPath = BASE,
    *,
    tasks: Sequence[str] | None = None,
    split: Split = "test",
    device: str = "auto",
    home: AnyPath | None = None,
    on_progress: Progress | None = None,
) -> Evaluated:
    """Accuracy per task of the base model, of each task's own model, or of a weight file.

    Args:
        suite: from :func:`load_suite`, or what that takes.
        model: ``base`` (zero-shot), ``individual`` (each task by its own model), or the path of a weight file; one
            of localised models is measured on each task with the model for it.
        tasks: names; all with a checkpoint by default.
        split: on which images, ``test`` or ``val``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        home: folder for caches, see :func:`merging.core.places.chosen_home`.
        on_progress: called with steps done, steps in all, and what is going on; by default a bar on a terminal or in a
            notebook.

    Raises:
        MergingError: there is no such suite or task, images or a head are lacking, or the file can't be used.

    >>> import merging
    >>> base, own = (merging.evaluate("mini", model, tasks=["digits"]) for model in ("base", "individual"))
    >>> base.name, own.name, own.average > base.average
    ('Zero-shot', 'Individual', True)
    """
    _one_of("split", split, Split)
    loaded, workspace = _loaded(suite), _workspace(home)
    where, chosen, labels = devices.resolve(device), _tasks(loaded, tasks), loaded.task_labels(loaded.task_names)
    evaluator = workspace.evaluator(loaded, where)
    with shown(on_progress) as report:
        context = Context(where, on_progress=report)
        said: list[str] = []
        if model == BASE:
            name, measured = "Zero-shot", workspace.base_accuracy(evaluator, chosen, split, context)
        elif model == INDIVIDUAL:
            name, measured = "Individual", workspace.individual_accuracy(evaluator, chosen, split, context)
            said = notes_of({task: loaded.checkpoint(task) for task in chosen})
        else:
            file = path_of(model)
            is_word = not file.suffix and file.name == str(model)
            if not str(model).strip() or (is_word and not file.exists()):
                near = nearest(model, (BASE, INDIVIDUAL))
                raise SpecError(f"model: expected {BASE!r}, {INDIVIDUAL!r}, or a weight file; got {model!r}{near}")
            name, measured = file.stem, workspace.file_accuracy(evaluator, file, chosen, split)
            said = workspace.file_oddities(loaded, file)
        return Evaluated(name, labels, measured, [*said, *evaluator.data_warnings()])


def leaderboard(
    suite: AnySuite,
    methods: Sequence[str] | None = None,
    *,
    tasks: Sequence[str] | None = None,
    device: str = "auto",
    home: AnyPath | None = None,
    on_progress: Progress | None = None,
) -> list[boards.Row]:
    """Published methods side by side, after zero-shot and individual models; what was run before is not run again.

    Every λ is chosen on validation images, accuracy is measured on test images.

    Args:
        suite: from :func:`load_suite`, or what that takes.
        methods: names that ``merging methods`` lists as published; all of them by default, which takes long.
        tasks: names; all with a checkpoint by default.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        home: folder for runs and caches, see :func:`merging.core.places.chosen_home`.
        on_progress: called with steps done, steps in all, and what is going on; by default a bar on a terminal or in a
            notebook.

    Raises:
        MergingError: there is no such suite, task or method, images or heads are lacking, or a run fails.

    >>> import merging
    >>> [row.method for row in merging.leaderboard("mini", ["average"], tasks=["digits", "shapes"])]
    ['Zero-shot', 'Individual', 'Weight averaging']
    """
    loaded, workspace = _loaded(suite), _workspace(home)
    names = list(presets.PRESETS) if methods is None else list(_names("methods", methods))
    chosen = boards.cheapest_first(presets.find_preset(name) for name in names)
    with shown(on_progress) as report:
        return list(
            boards.leaderboard(
                loaded,
                reference_of(suite),
                workspace,
                chosen,
                _tasks(loaded, tasks),
                str(devices.resolve(device)),
                report,
            )
        )


def export(
    merged: Merged,
    folder: AnyPath,
    layout: WrittenLayout = "open_clip",
    dtype: WrittenDtype = "as-base",
    shard_bytes: int | None = None,
) -> list[Path]:
    """Write a merge into a folder to hand on: weights, recipe, model card, coefficients, and what classifies an image.

    Args:
        merged: from :func:`merge`.
        folder: it is made if it is not there.
        layout: whose names the weights have, ``open_clip`` or ``huggingface``.
        dtype: what they are rounded to: ``float32``, ``bfloat16``, ``float16``, or ``as-base`` for the base's.
        shard_bytes: bytes of weights in a file at most; one file by default.

    Returns:
        The files written.

    Raises:
        MergingError: the checkpoints have changed since, or the disk refuses.

    >>> import merging, tempfile
    >>> merged = merging.merge("mini", "average", tasks=["digits", "shapes"], evaluate=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     {"model.safetensors", "recipe.yaml", "README.md"} <= {file.name for file in merging.export(merged, folder)}
    True
    """
    if not isinstance(merged, Merged):
        raise SpecError(f"merged: expected what merging.merge gives, got {merged!r:.60}")
    return export_run(merged.run, merged.workspace, path_of(folder), Form(layout, dtype, shard_bytes))


def replay(
    recipe: AnyPath,
    output: AnyPath,
    suite: AnySuite | None = None,
    *,
    home: AnyPath | None = None,
    on_progress: Progress | None = None,
) -> recipes.Replayed:
    """Make the weights of an exported recipe again, on the CPU, and compare them with those that were exported.

    Args:
        recipe: the file ``recipe.yaml``.
        output: file for the weights, ``.safetensors``.
        suite: where the checkpoints are, if the recipe's suite is not built in.
        home: folder for caches, see :func:`merging.core.places.chosen_home`.
        on_progress: called with steps done, steps in all, and what is going on; by default a bar on a terminal or in a
            notebook.

    Returns:
        Whether the weights are the exported ones bit for bit, and the hash of their tensors.

    Raises:
        MergingError: it is no recipe, the checkpoints are others than the recipe's, or the merge itself fails.

    >>> import merging, tempfile
    >>> merged = merging.merge("mini", "average", tasks=["digits", "shapes"], evaluate=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = merging.export(merged, folder)
    ...     merging.replay(f"{folder}/recipe.yaml", f"{folder}/again.safetensors").identical
    True
    """
    known = recipes.read_recipe(path_of(recipe))
    loaded = _loaded(known.built_in_suite() if suite is None else suite)
    with shown(on_progress) as report:
        return recipes.replay(known, loaded, _workspace(home), path_of(output), report)


def _loaded(suite: AnySuite) -> Suite:
    return suite if isinstance(suite, Suite) else load_suite(os.fspath(suite))


def _workspace(home: AnyPath | None) -> Workspace:
    """The folder for runs, once methods of one's own are those of now; what is wrong with them is said."""
    own.refresh()
    for problem in own.problems():
        if problem not in _told:
            warnings.warn(str(problem), stacklevel=3)
    _told[:] = own.problems()
    return Workspace(chosen_home() if home is None else path_of(home))


def _tasks(suite: Suite, tasks: Sequence[str] | None) -> tuple[str, ...]:
    """The tasks named, checked; without any all that name a checkpoint, a missing file being an error."""
    if tasks is not None and not len(_names("tasks", tasks)):
        raise SpecError(f"tasks: expected at least one name; the suite has {', '.join(suite.task_names)}")
    return suite.chosen(tasks)


def _unseen(suite: Suite, merged: Sequence[str], unseen: Sequence[str]) -> tuple[str, ...]:
    """The tasks named, checked; for ``rest`` all further ones with images and a head, of which there must be one."""
    if unseen != "rest":
        return suite.chosen(_names("unseen", unseen))
    rest = suite.rest(merged)
    if not rest:
        raise SpecError(f"unseen='rest': suite {suite.name!r} has no further task with images and a head; merge fewer")
    return rest


def _one_of(argument: str, given: Any, allowed: Any) -> None:
    if given not in get_args(allowed):
        raise SpecError(f"{argument}: expected one of {', '.join(get_args(allowed))}; got {given!r}")


def _names(argument: str, given: Sequence[str]) -> Sequence[str]:
    if isinstance(given, str):
        raise SpecError(f"{argument}: expected a list of names, such as [{given!r}]; got the text {given!r}")
    return given


def _by_stage(parameters: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """``{"edit.alpha": 0.1}`` → parameters by stage."""
    if parameters is not None and not isinstance(parameters, Mapping):
        raise SpecError(f"parameters: expected names with values, such as {{'merge.scaling': 0.3}}; got {parameters!r}")
    found: dict[str, dict[str, Any]] = {"edit": {}, "merge": {}}
    for name, value in (parameters or {}).items():
        stage, dot, parameter = str(name).partition(".")
        if not dot or stage not in found or not parameter:
            raise SpecError(f"parameter {name!r}: expected edit.NAME or merge.NAME, such as 'merge.scaling'")
        found[stage][parameter] = value
    return found


def _method(method: Any) -> str | tuple[str, str]:
    """What ``method`` names, once it is one of the two things that it may be."""
    if isinstance(method, str) or (isinstance(method, tuple | list) and len(method) == 2):
        return method if isinstance(method, str) else (method[0], method[1])
    raise SpecError(f"method: expected a published method's name, or a pair (edit, merge); got {method!r}")
