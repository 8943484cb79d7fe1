"""A run as a folder that others can use: weights, recipe, model card, coefficients, and what it takes to classify."""

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EISDIR
from pathlib import Path
from tempfile import TemporaryDirectory

from merging.core.errors import CheckpointError, SpecError
from merging.core.files import atomic_path
from merging.evaluation import clip
from merging.evaluation.heads import load_head
from merging.runs.export.huggingface import CONFIG, config_text
from merging.runs.export.model_card import classify_text, model_card
from merging.runs.export.recipe import in_form, recipe_of
from merging.runs.export.weights import KEPT_WEIGHTS, kept_weights, require_done, write_rebuilt
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.merge_result import Coefficients
from merging.runs.run import Run
from merging.runs.workspace import Workspace
from merging.suites.suite import Suite, load_suite
from merging.weights.files import save_tensors
from merging.weights.files.checkpoint import TensorInfo
from merging.weights.files.layouts import huggingface_names
from merging.weights.files.writing import PLAIN, Form, index_of, written_files


def export_run(run: Run, workspace: Workspace, folder: Path, form: Form = PLAIN) -> list[Path]:
    """Write a finished run into a folder.

    ``model.safetensors``, or several files and an index, ``recipe.yaml`` and ``README.md``, a model card; for linear
    runs ``coefficients.csv``; in Hugging Face's layout the ``config.json`` with which transformers loads the folder;
    where every task has a head, and the weights are one model in open_clip's layout, also ``heads.safetensors``,
    ``config.json`` and ``classify.py``. Linear runs are rebuilt from their coefficient table; other weights were kept
    when the run was made.

    Returns:
        The files written.

    Raises:
        RunError: the run is not done, or its weights are gone.
        SpecError: localised models were asked for in a form for one model.
        MergingError: the checkpoints have changed since.
    """
    suite = load_suite(run.spec.suite)
    require_form(run.spec, suite, form)
    with _appearing_in(folder) as made:
        weights = made / KEPT_WEIGHTS
        write_weights(run, workspace, weights, form)
        stored = [file.name for file in written_files(weights)]
        recipe = recipe_of(run, weights, form)
        texts = {"recipe.yaml": recipe.to_yaml()}
        if recipe.coefficients is not None:
            texts["coefficients.csv"] = _table(recipe.coefficients)
        if form.layout == "huggingface":
            texts[CONFIG] = config_text(suite, form.dtype)
        one_model = form.layout == "open_clip" and not run.spec.pair.localised
        if one_model and all(map(suite.measurable, run.spec.tasks)):
            texts |= {"classify.py": classify_text(stored), "config.json": _config(run, suite)}
            _write_heads(made / "heads.safetensors", run, suite, workspace)
        texts["README.md"] = model_card(run, recipe, suite, [*texts, *stored])
        for name, text in texts.items():
            (made / name).write_text(text, encoding="utf-8")
        names = sorted(path.name for path in made.iterdir())
    return [folder / name for name in names]


@contextmanager
def _appearing_in(folder: Path) -> Iterator[Path]:
    """An empty folder whose files go to ``folder`` once all of them are complete.

    Raises:
        CheckpointError: something is in the way, or the disk refuses; nothing was changed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".export-", dir=folder) as made:
            yield Path(made)
            files = sorted(Path(made).iterdir())
            for file in files:
                if (folder / file.name).is_dir():
                    raise IsADirectoryError(EISDIR, os.strerror(EISDIR), file.name)
            _require_one_model(folder, {file.name for file in files})
            for file in files:
                file.replace(folder / file.name)
    except OSError as error:
        name = Path(error.filename or folder).name
        raise CheckpointError(f"{name}: can't be written ({error.strerror}); nothing was changed") from None


def _require_one_model(folder: Path, names: set[str]) -> None:
    """Insist that weights do not come to lie beside earlier ones in more or fewer files."""
    earlier = [folder / KEPT_WEIGHTS, index_of(folder / KEPT_WEIGHTS), *folder.glob("model-?????-of-?????.safetensors")]
    for name in (path.name for path in earlier if path.is_file()):
        if name not in names:
            raise CheckpointError(
                f"{folder.name}: {name} of an earlier export lies there, and readers could take the one for the other; "
                "nothing was changed; remove it or choose another folder"
            )


def _table(coefficients: Coefficients) -> str:
    """A line for every tensor, a column for every task; numbers as exact as they are."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["tensor", *coefficients.tasks])
    writer.writerows(zip(coefficients.tensors, *coefficients.table, strict=True))
    return text.getvalue()


def _config(run: Run, suite: Suite) -> str:
    """What it takes to build the tower and read its answers."""
    tower, wanted = clip.config(suite), clip.input_of(suite)
    content = {
        "embed_dim": tower["embed_dim"],
        "vision_cfg": tower["vision_cfg"],
        "quick_gelu": bool(tower.get("quick_gelu")),
        "logit_scale": suite.logit_scale,
        "size": wanted.size,
        "mean": list(wanted.mean),
        "std": list(wanted.std),
        "classes": {name: list(suite.task(name).classes) for name in run.spec.tasks},
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _write_heads(path: Path, run: Run, suite: Suite, workspace: Workspace) -> None:
    """The heads of all tasks, a matrix ``[classes, embed_dim]`` each, under their names."""
    heads = {name: load_head(suite, name, workspace.cache) for name in sorted(run.spec.tasks)}
    save_tensors(path, {name: TensorInfo(tuple(head.shape), head.dtype) for name, head in heads.items()}, heads.items())


def require_form(spec: MergeSpec, suite: Suite, form: Form) -> None:
    """Find out before long work whether its result can be written in a form.

    Raises:
        SpecError: localised models were asked for in a form for one model.
        CheckpointError: the visual tower does not fit the layout.
    """
    if spec.pair.localised and not form.plain:
        raise SpecError(
            f"{spec.merge} writes models for {len(spec.tasks)} tasks in one file, which has one form only; leave out "
            "--layout, --dtype and --shard-size"
        )
    if form.layout == "huggingface":
        huggingface_names(tuple(suite.base_checkpoint))
        config_text(suite, form.dtype)


def write_weights(run: Run, workspace: Workspace, path: Path, form: Form = PLAIN) -> None:
    """Write the merged weights of a finished run to a ``.safetensors`` file; raises as :func:`export_run`."""
    result = require_done(run)
    if result.coefficients is not None:
        vectors = workspace.vectors(load_suite(run.spec.suite), run.spec.tasks)
        write_rebuilt(result, run.spec, vectors, path, form)
        return
    kept = kept_weights(run, workspace.store)
    if not form.plain:
        in_form(kept, path, run.spec.label, form)
        return
    with atomic_path(path) as temporary:
        shutil.copyfile(kept, temporary)
