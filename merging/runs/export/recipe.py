"""A run as a recipe: a file from which anybody who has the same checkpoints rebuilds the same weights, bit for bit."""

import hashlib
import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from merging.core.errors import MergingError, SpecError
from merging.core.limits import MAX_RECIPE_BYTES
from merging.core.progress import Progress, no_progress
from merging.core.text import kind_of, short
from merging.core.wording import explain, nearest
from merging.core.yaml_text import read_yaml
from merging.methods import own, registry
from merging.methods.context import Context
from merging.methods.pair import DEFAULTS
from merging.methods.params import AUTO
from merging.methods.plan import plan
from merging.methods.registry import Kind, Stage
from merging.runs.export.weights import require_done, write_rebuilt
from merging.runs.jobs import MergeSpec, Site
from merging.runs.jobs.merge_result import Coefficients, MergeResult
from merging.runs.run import Run
from merging.runs.workspace import Workspace
from merging.suites.suite import Suite, builtin_suites
from merging.weights.files import open_checkpoint, save_tensors
from merging.weights.files.writing import PLAIN, Form, index_of, require_writable
from merging.weights.vectors import TaskVectors

_INTRODUCTION = (
    "# What these weights were made of. With the same checkpoints they are made again, bit for bit on the CPU, by\n"
    "#     merging replay recipe.yaml --output model.safetensors\n"
)


_ROUNDED = 1e-2  # of the largest coefficient: what other processors make of the same equations differs by less
_NAMES = {"revisions": {"edit", "merge"}, "chosen": {"scaling", "thresholds"}}  # all that exports have ever written


class Written(BaseModel):
    """The weights that were written: a hash of all tensors, how they are named, and what they were rounded to."""

    model_config = ConfigDict(extra="forbid")

    sha256: str
    layout: Literal["open_clip", "huggingface"] = "open_clip"
    dtype: Literal["as-base", "float32", "bfloat16", "float16"] = "as-base"

    @property
    def form(self) -> Form:
        """How to write them again."""
        return Form(self.layout, self.dtype)


class Recipe(BaseModel):
    """What ``recipe.yaml`` holds.

    Attributes:
        label: what the method is called.
        run: identity of the run that it was written for.
        spec: its specification, with the suite's name in place of its path.
        revisions: of its edit and merge, see :class:`merging.methods.registry.Revision`; None if not recorded.
        sources: of an edit or a merge that is somebody's own: kind → SHA-256 of its source, without which nothing is
            made again.
        chosen: what ``auto`` came to: values that were chosen on validation images.
        device: where the run was made.
        fingerprints: SHA-256 of the base's and of every task's file.
        coefficients: of a linear run, None of others.
        weights: what was written.
        contents: SHA-256 of all of it that the weights depend on, by which a change is seen; None in older ones.
    """

    model_config = ConfigDict(extra="forbid")

    label: str
    run: str
    spec: dict[str, Any]
    revisions: dict[str, int] | None = None
    sources: dict[str, str] | None = None
    chosen: dict[str, Any] = Field(default_factory=dict)
    device: str = "cpu"
    fingerprints: dict[str, str]
    coefficients: Coefficients | None = None
    weights: Written
    contents: str | None = None

    @field_validator("revisions", "chosen")
    @classmethod
    def _known_names(cls, values: Mapping[str, Any] | None, info: ValidationInfo) -> Mapping[str, Any] | None:
        """A name that nothing asks for would be passed over, and what it was to say with it."""
        known = _NAMES[str(info.field_name)]
        for name in (values or {}).keys() - known:
            raise ValueError(f"{name[:80]}: unknown name{nearest(name, known)}; expected {' or '.join(sorted(known))}")
        return values

    @property
    def suite_name(self) -> str:
        """The suite it was made from: a built-in name, or the name of a folder."""
        return str(self.spec.get("suite", ""))

    @property
    def digest(self) -> str:
        """What ``contents`` is as long as nothing was changed."""
        content = self.model_dump(mode="json", exclude={"label", "run", "device", "contents"}, exclude_none=True)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def built_in_suite(self) -> str:
        """The name of the suite, if it is one that everybody has.

        Raises:
            SpecError: it is somebody's own.
        """
        if self.suite_name not in builtin_suites():
            raise SpecError(
                f"the recipe is of suite {self.suite_name!r}, which is not built in; name the suite that holds its "
                "checkpoints with --suite PATH"
            )
        return self.suite_name

    def to_yaml(self) -> str:
        """As a file, with what to do with it in the first lines."""
        content = self.model_dump(mode="json", exclude_none=True)
        return _INTRODUCTION + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)

    def spec_for(self, suite: Suite) -> MergeSpec:
        """The specification with a suite's path, on the CPU, with what was chosen in place of ``auto``.

        Thresholds that were chosen for every task are chosen again: a parameter holds only one. Where an edit or a
        merge computes other numbers by now, it is given the parameters with which it still computes those.

        Raises:
            SpecError: it names methods or parameters that there are not, or methods of somebody's own whose source is
                not here, or another one.
        """
        self._require_sources()
        fields = {**self.spec, "suite": str(suite.folder / "suite.yaml"), "device": "cpu", "evaluate": False}
        spec = MergeSpec.build(**fields)
        pair = spec.pair.as_of(self.revisions)
        if pair.scaling == AUTO and "scaling" in self.chosen:
            pair = pair.with_scaling(self.chosen["scaling"])
        return MergeSpec.build(**{**fields, **pair.fields})

    def _require_sources(self) -> None:
        """Insist on the very source of every method of somebody's own."""
        recorded = self.sources or {}
        tables: dict[Kind, dict[str, Stage]] = {"edit": registry.edits(), "merge": registry.merges()}
        for kind, table in tables.items():
            name, wanted = str(self.spec.get(kind, DEFAULTS[kind])), recorded.get(kind)
            stage = table.get(name)
            found = stage.source if stage else None
            if wanted == (found.sha256 if found else None):
                continue
            if wanted is None:
                raise SpecError(
                    f"the recipe says nothing of the source of its {kind} {name!r}, which is a method of your own here "
                    f"({found.name if found else ''}), and may mean another one; its weights can't be made again"
                )
            here = f"{found.name} holds another one ({found.sha256[:12]})" if found else "it is not here"
            raise SpecError(
                f"the recipe's {kind} {name!r} is a method of its author's own, with a source of SHA-256 "
                f"{wanted[:12]}; {here}; name the file with exactly that content with --methods FILE or in "
                f"MERGING_METHODS{own.aside()}"
            )


def recipe_of(run: Run, weights: Path, form: Form = PLAIN) -> Recipe:
    """The recipe of a finished run, and of the file or files that its weights were written to."""
    result = require_done(run)
    made = Recipe(
        label=run.label,
        run=run.id,
        # What is measured besides is no part of how weights are made.
        spec={**run.spec.model_dump(mode="json", exclude={"unseen"}), "suite": run.spec.suite_name},
        revisions=result.revisions or None,
        sources=result.sources,
        chosen=result.chosen,
        device=result.device,
        fingerprints=result.fingerprints,
        coefficients=result.coefficients,
        weights=Written(sha256=weights_sha256(weights), layout=form.layout, dtype=form.dtype),
    )
    return made.model_copy(update={"contents": made.digest})


def weights_sha256(path: Path) -> str:
    """SHA-256 of all tensors by name, dtype, shape and content, whatever else the file says; several files are one."""
    digest = hashlib.sha256()
    stored = open_checkpoint(path if path.is_file() else index_of(path), part="all")
    for name in sorted(stored):
        tensor = stored[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_recipe(path: Path) -> Recipe:
    """A recipe from its file.

    Raises:
        SpecError: it can't be read or is no recipe.
    """
    content = read_yaml(path, SpecError, MAX_RECIPE_BYTES)
    if not isinstance(content, dict):
        raise SpecError(f"{path.name}: expected the mapping that an export writes, got {kind_of(content)}")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        wrong = explain(error, known=Recipe)
        raise SpecError(f"{path.name}: {wrong}; expected a recipe that an export wrote") from None


@dataclass(frozen=True)
class Replayed:
    """Weights that were made again.

    Attributes:
        sha256: of the tensors written, see :func:`weights_sha256`.
        identical: whether they are those of the recipe, bit for bit.
    """

    sha256: str
    identical: bool

    def verdict(self, recipe: Recipe) -> str:
        """In a sentence."""
        if self.identical:
            return f"identical to the exported weights, bit for bit (sha256 of the tensors {self.sha256[:12]})"
        seen = f"not identical: the tensors' sha256 is {self.sha256[:12]}, the recipe says {recipe.weights.sha256[:12]}"
        if recipe.contents not in (None, recipe.digest):
            return f"{seen}; the recipe was changed since it was exported, and these weights are what it specifies now"
        if recipe.device != "cpu":
            why = f"the run was made on {recipe.device}, where sums are rounded in another order"
        else:
            why = "other versions of torch or another processor can round differently"
        if recipe.contents is None:
            why += ", or the recipe was changed, which one as old as this does not tell"
        return f"{seen}; {why}"


def replay(
    recipe: Recipe, suite: Suite, workspace: Workspace, output: Path, on_progress: Progress = no_progress
) -> Replayed:
    """Make a recipe's weights again: from its table of coefficients, else by doing what it specifies.

    Args:
        recipe: what to make.
        suite: where its checkpoints are.
        workspace: where caches are.
        output: file for the weights, ``.safetensors``.
        on_progress: called as the work goes on.

    Raises:
        MergingError: the checkpoints are others than the recipe's, or what the merge itself raises.
    """
    require_writable(output)
    spec = recipe.spec_for(suite)
    vectors = workspace.vectors(suite, spec.tasks)
    _require_same_files(recipe, vectors)
    form = recipe.weights.form
    if recipe.coefficients is not None:
        _require_table(recipe.coefficients, vectors)
        _require_specified(recipe.coefficients, spec, vectors)
        result = MergeResult(fingerprints=recipe.fingerprints, coefficients=recipe.coefficients)
        write_rebuilt(result, spec, vectors, output, form)
    elif form.plain:
        spec.run(Site(workspace, on_progress, output=output))
    else:
        with tempfile.TemporaryDirectory(dir=output.parent) as folder:
            made = Path(folder) / output.name
            spec.run(Site(workspace, on_progress, output=made))
            in_form(made, output, spec.label, form)
    found = weights_sha256(output)
    return Replayed(found, found == recipe.weights.sha256)


def in_form(weights: Path, output: Path, label: str, form: Form) -> None:
    """Write a file of weights again with another layout's names and shapes, rounded, or in parts."""
    stored = open_checkpoint(weights, part="all")
    save_tensors(output, stored.infos, stored.items(), {"method": label}, form=form)


def _require_table(coefficients: Coefficients, vectors: TaskVectors) -> None:
    """Insist on a number for each task and tensor, in the order of the recipe's tasks and of the base's tensors."""
    for what, found, wanted in (
        ("tasks", coefficients.tasks, list(vectors.tasks)),
        ("tensors", coefficients.tensors, list(vectors.names)),
    ):
        if found != wanted:
            differs = next((pair for pair in zip(found, wanted, strict=False) if pair[0] != pair[1]), None)
            seen = f"{differs[0][:80]!r} for {differs[1]!r}" if differs else f"{len(found)} for {len(wanted)}"
            raise SpecError(f"the recipe's coefficients are of other {what}: {seen}; it was changed")
    rows = {len(row) for row in coefficients.table}
    if len(coefficients.table) != len(vectors.tasks) or rows != {len(vectors.names)}:
        raise SpecError(
            f"the recipe's coefficients are {len(coefficients.table)} rows of {sorted(rows)[:3]} numbers; expected one "
            f"row for each of {len(vectors.tasks)} tasks, of {len(vectors.names)} numbers; it was changed"
        )
    if not all(math.isfinite(number) for row in coefficients.table for number in row):
        raise SpecError("the recipe's coefficients hold NaN or infinity; it was changed")


def _require_specified(coefficients: Coefficients, spec: MergeSpec, vectors: TaskVectors) -> None:
    """Insist on the coefficients that the specification leads to, where that takes no images to know.

    Raises:
        SpecError: it leads to others.
    """
    if spec.pair.data.images:
        return
    planned = plan(vectors, spec.pair, Context(torch.device("cpu"), spec.seed)).table
    table = np.array(coefficients.table).T
    if planned is None:
        raise SpecError(
            f"the recipe has a table of coefficients, and specifies {spec.pair.label}, which has none; it was changed"
        )
    far = np.abs(planned - table) > _ROUNDED * np.maximum(np.abs(planned).max(), 1)
    if far.any():
        tensor, task = np.argwhere(far)[0]
        raise SpecError(
            f"the recipe contradicts itself: by its specification ({spec.pair.text[:200]}) the coefficient of task "
            f"{vectors.tasks[task]!r} in tensor {vectors.names[tensor]!r} is {short(float(planned[tensor, task]))}, in "
            f"its table {short(float(table[tensor, task]))}; one of the two was changed; take the recipe as it was "
            "exported, or delete `coefficients` to have the weights that it specifies"
        )


def _require_same_files(recipe: Recipe, vectors: TaskVectors) -> None:
    """Insist on the checkpoints that the recipe names, by content."""
    names = [vectors.base.path.name, *vectors.tasks]
    found = [vectors.base.fingerprint, *(checkpoint.fingerprint for checkpoint in vectors.checkpoints)]
    expected = list(recipe.fingerprints.values())
    if len(expected) != len(found):
        raise SpecError(f"the recipe has fingerprints of {len(expected)} files for {len(found)}; it was changed")
    others = [name for name, own, wanted in zip(names, found, expected, strict=True) if own != wanted]
    if others:
        raise MergingError(
            f"other checkpoints than the recipe's: {', '.join(others)}; its weights can be made only from files with "
            "the fingerprints that stand in it"
        )
