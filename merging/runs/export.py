"""A run as a folder that others can use: weights, recipe, a page about it."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from merging import registry
from merging.checkpoints import open_checkpoint, save_tensors
from merging.checkpoints.writing import WrittenLayout, atomic_path
from merging.errors import RunError
from merging.runs.execute import rebuild
from merging.runs.store import Run
from merging.suites.suite import load_suite
from merging.workspace import Workspace

KEPT_WEIGHTS = "model.safetensors"


_REBUILD = (
    "from merging.checkpoints import open_checkpoint",
    "from merging.localised import task_weights",
    "",
    'weights = task_weights(open_checkpoint("base.safetensors"), "model.safetensors", "the task\'s name")',
)


def export_run(run: Run, workspace: Workspace, folder: Path) -> list[Path]:
    """Write ``model.safetensors``, ``recipe.json`` and ``README.md`` of a finished run into a folder.

    Linear runs are rebuilt from their coefficient table; other weights were kept when the run was made.

    Returns:
        The files written.

    Raises:
        RunError: the run is not done, or its weights are gone.
        MergingError: the checkpoints have changed since.
    """
    texts = {"recipe.json": json.dumps(recipe_of(run), indent=2) + "\n", "README.md": _page(run)}
    for name, text in texts.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    weights = folder / KEPT_WEIGHTS
    write_weights(run, workspace, weights)
    return [weights, *(folder / name for name in texts)]


def write_weights(run: Run, workspace: Workspace, path: Path, layout: WrittenLayout = "open_clip") -> None:
    """Write the merged weights of a finished run to a ``.safetensors`` file; raises as :func:`export_run`."""
    if run.state != "done" or run.result is None:
        raise RunError(f"run {run.id} is {run.state}; only finished runs have weights")
    if run.result["coefficients"] is not None:
        vectors = workspace.vectors(load_suite(run.spec.suite), run.spec.tasks)
        rebuild(run.result, run.spec, vectors, path, layout)
        return
    kept = workspace.store.folder(run.id) / KEPT_WEIGHTS
    if not kept.is_file() or run.result.get("kept", _state(kept)) != _state(kept):
        raise RunError(f"run {run.id}: its weights are gone or were changed; delete the run and make it again")
    if layout != "open_clip":
        weights = open_checkpoint(kept, part="all")
        save_tensors(path, weights.infos, weights.items(), {"method": run.spec.label}, layout)
        return
    with atomic_path(path) as temporary:
        shutil.copyfile(kept, temporary)


def keep_weights(output: Path, kept: Path) -> list[int]:
    """Keep a file of weights for later exports without a second copy of it, where the file system allows that.

    Returns:
        What :func:`write_weights` compares: the two names stand for one file, which somebody might write into.

    Raises:
        CheckpointError: the disk refuses.
    """
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.unlink(missing_ok=True)
        kept.hardlink_to(output)
    except OSError:
        with atomic_path(kept) as temporary:
            shutil.copyfile(output, temporary)
    return _state(kept)


def _state(path: Path) -> list[int]:
    """Size and time of the last change of a file."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def recipe_of(run: Run) -> dict[str, Any]:
    """Everything needed to make the weights again: specification, fingerprints, coefficients."""
    result = run.result or {}
    spec = {**run.spec.model_dump(mode="json"), "suite": run.spec.suite_name}
    localised = registry.find("merge", run.spec.merge).localised
    return {
        "run": run.id,
        "fingerprint": run.fingerprint,
        "spec": spec,
        "fingerprints": result.get("fingerprints"),
        "coefficients": result.get("coefficients"),
        "chosen": _chosen(run),
        **({"rebuild": list(_REBUILD)} if localised else {}),
    }


def _chosen(run: Run) -> dict[str, Any]:
    """What ``auto`` stands for in the specification: the values that were chosen on validation images."""
    report = (run.result or {}).get("merge") or {}
    return {name: report[name] for name in ("scaling", "thresholds") if name in report}


def _plain(text: str) -> str:
    """Text from a file in which Markdown finds nothing to interpret."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~$&-])", r"\\\1", text)


def _contents(run: Run) -> list[str]:
    """What the file of weights is, in lines of markdown."""
    if not registry.find("merge", run.spec.merge).localised:
        return ["`model.safetensors` holds the visual tower, names as in open_clip's `model.visual`."]
    return [
        "`model.safetensors` is not one model: it holds a vector that all tasks share and a mask of one bit a weight",
        "for every task. With the base model it gives each task's visual tower, names as in `model.visual`:",
        "",
        "```python",
        *_REBUILD,
        "```",
    ]


def _page(run: Run) -> str:
    result = run.result or {}
    lines = [
        f"# {run.spec.label}",
        "",
        f"Merged from {len(run.spec.tasks)} task models: {', '.join(map(_plain, run.spec.tasks))}.",
        *_contents(run),
        "",
    ]
    if result.get("accuracy"):
        lines += [
            f"Top-1 accuracy on the {result['split']} split, {result['images']} images, seed {run.spec.seed}:",
            "",
            "| task | images | accuracy |",
            "|---|---|---|",
            *(f"| {_plain(t)} | {result['counts'][t]} | {100 * a:.1f} % |" for t, a in result["accuracy"].items()),
            f"| **average** | {result['images']} | {100 * result['average']:.1f} % |",
            "",
        ]
    lines += ["Parameters:", "", "```json", json.dumps({
        "edit": run.spec.edit, "edit_params": run.spec.edit_params,
        "merge": run.spec.merge, "merge_params": run.spec.merge_params,
    }, indent=2), "```", ""]  # fmt: skip
    if _chosen(run):
        lines += ["Chosen on validation, where a parameter is auto, or given:", "", "```json",
                  json.dumps(_chosen(run)), "```", ""]  # fmt: skip
    return "\n".join(lines)
