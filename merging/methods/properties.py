"""Properties that a method should have, whatever it computes, on small random models.

Tests try them on many drawn cases, pair by pair; ``merging check-method`` tries one stage on a few (:func:`check`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from merging.core import devices
from merging.core.errors import MergingError
from merging.evaluation.evaluator import Evaluator
from merging.methods import random_suite
from merging.methods.context import Context
from merging.methods.pair import DEFAULTS, Pair
from merging.methods.params import AUTO
from merging.methods.plan import plan
from merging.methods.planned import Edit
from merging.methods.registry import Kind, find
from merging.suites import Suite
from merging.weights.files import open_checkpoint, save_tensors
from merging.weights.files.checkpoint import TensorInfo
from merging.weights.vectors import TaskVectors

State = dict[str, torch.Tensor]
SHAPES: dict[str, tuple[int, ...]] = {
    "conv1.weight": (4, 3, 2, 2),
    "ln_post.bias": (6,),
    "proj": (9, 6),
    "transformer.resblocks.0.mlp.c_fc.weight": (18, 8),
    "transformer.resblocks.0.mlp.c_proj.weight": (8, 18),
}
KINDS = ("free", "one zero", "a tensor of zeros", "one tensor of one task zero", "steep", "some equal")
_ROUNDING = {torch.float16: 2**-10, torch.bfloat16: 2**-7}


def random_state(
    seed: int, shapes: Mapping[str, tuple[int, ...]], spread: float = 1.0, dtype: torch.dtype = torch.float32
) -> State:
    """Normally distributed weights."""
    generator = torch.Generator().manual_seed(seed)
    return {name: (spread * torch.randn(shape, generator=generator)).to(dtype) for name, shape in shapes.items()}


def write_models(
    folder: Path, base: Mapping[str, torch.Tensor], models: Sequence[Mapping[str, torch.Tensor]]
) -> TaskVectors:
    """Task vectors read from real files with these weights; tasks are ``task0``, ``task1``, …"""
    folder.mkdir(parents=True, exist_ok=True)
    names = tuple(f"task{index}" for index in range(len(models)))
    for name, state in zip(("base", *names), (base, *models), strict=True):
        infos = {each: TensorInfo(tuple(tensor.shape), tensor.dtype) for each, tensor in sorted(state.items())}
        save_tensors(folder / f"{name}.safetensors", infos, sorted(state.items()))
    base_file, *files = (open_checkpoint(folder / f"{name}.safetensors") for name in ("base", *names))
    return TaskVectors(base_file, tuple(files), names)


@dataclass(frozen=True)
class Drawn:
    """A case: T task vectors of some kind around a base.

    Attributes:
        tasks: T.
        kind: one of :data:`KINDS`.
        spread: of their entries.
        seed: of the random numbers.
    """

    tasks: int
    kind: str
    spread: float
    seed: int

    def vectors(self, shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> list[State]:
        """τ of every task, in float32."""
        found = [random_state(1 + self.seed * 100 + task, shapes, self.spread) for task in range(self.tasks)]
        if self.kind == "one zero":
            found[-1] = {name: torch.zeros_like(tensor) for name, tensor in found[-1].items()}
        if self.kind == "a tensor of zeros":
            for state in found:
                state["transformer.resblocks.0.mlp.c_fc.weight"].zero_()
        if self.kind == "one tensor of one task zero":
            found[0]["transformer.resblocks.0.mlp.c_proj.weight"].zero_()
        if self.kind == "steep":
            found = [{name: tensor**3 / self.spread**2 for name, tensor in state.items()} for state in found]
        if self.kind == "some equal":
            found[: self.tasks // 2] = [found[0]] * (self.tasks // 2)
        return found

    def __str__(self) -> str:
        return f"{self.tasks} task{'s' * (self.tasks != 1)}, {self.kind}"


def differs(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], tolerance: float) -> str:
    """Where tensors are farther from those expected than a share of the longest of these; empty if nowhere."""
    longest = max(float(tensor.float().norm()) for tensor in expected.values())
    for name, tensor in expected.items():
        distance = float((found[name].cpu().float() - tensor.float()).norm())
        if not distance <= tolerance * longest + 1e-12:
            return f"tensor {name!r} is off by {distance / max(longest, 1e-30):.2g} of the longest tensor"
    return ""


def unsteady(found: Mapping[str, torch.Tensor], again: Mapping[str, torch.Tensor]) -> str:
    """Where a merge is no number, or another one the second time; empty if nowhere."""
    for name, tensor in found.items():
        if not bool(tensor.isfinite().all()):
            return f"tensor {name!r} holds NaN or infinity"
        if not torch.equal(tensor, again[name]):
            return f"tensor {name!r} is another one the second time"
    return ""


def touched(vectors: TaskVectors, found: Mapping[str, torch.Tensor]) -> str:
    """Where a merge changes a tensor that no task has changed, by more than rounding; empty if nowhere."""
    for name in vectors.names:
        base, stack = vectors.stack(name)
        if not stack.any() and float((found[name].float() - base).norm()) > 1e-5 * float(base.norm()):
            return f"tensor {name!r} changes, which no task has changed"
    return ""


def beside(vectors: TaskVectors, found: Mapping[str, torch.Tensor], tolerance: float = 1e-3) -> str:
    """Where the merge of equal models changes a tensor in another direction than they do; empty if nowhere."""
    for name in vectors.names:
        base, stack = vectors.stack(name)
        change, one = (found[name].float() - base).flatten(), stack[0].flatten()
        along = one * (change @ one) / (one @ one).clamp(min=1e-30)
        if float((change - along).norm()) > tolerance * max(float(change.norm()), float(one.norm())):
            return f"the change of tensor {name!r} is no multiple of that of the models"
    return ""


def reordered(vectors: TaskVectors, order: Sequence[int]) -> TaskVectors:
    """The same task vectors in another order."""
    return TaskVectors(
        vectors.base, tuple(vectors.checkpoints[i] for i in order), tuple(vectors.tasks[i] for i in order)
    )


@dataclass(frozen=True)
class TriedProperty:
    """A property that was tried.

    Attributes:
        name: the property, as a sentence without its end.
        fault: where it does not hold, and what was seen; empty if it holds.
        left_out: why it was not tried; empty if it was.
    """

    name: str
    fault: str = ""
    left_out: str = ""

    @property
    def holds(self) -> bool:
        """Whether it was tried and holds."""
        return not self.fault and not self.left_out


@dataclass(frozen=True)
class _Trial:
    """A method, and a folder for the models that it is tried on: whole towers with images if it looks at some."""

    pair: Pair
    folder: Path
    written: dict[tuple[Drawn, torch.dtype], TaskVectors] = field(default_factory=dict)
    suites: dict[int, Suite] = field(default_factory=dict)  # number of tasks → one with images

    @cached_property
    def base(self) -> State:
        if not self.pair.data.images:
            return random_state(0, SHAPES)
        base = random_state(0, random_suite.tower_shapes(), 0.2)
        return {name: one + 1 if "ln" in name and name.endswith("weight") else one for name, one in base.items()}

    def models(self, case: Drawn, dtype: torch.dtype = torch.float32) -> TaskVectors:
        if (case, dtype) not in self.written:
            taus = case.vectors({name: tuple(tensor.shape) for name, tensor in self.base.items()})
            models = [{name: (self.base[name] + tau[name]).to(dtype) for name in self.base} for tau in taus]
            place = self.folder / f"{case} {dtype}"
            stored = {name: tensor.to(dtype) for name, tensor in self.base.items()}
            self.written[case, dtype] = vectors = write_models(place, stored, models)
            if self.pair.data.images and case.tasks not in self.suites:
                self.suites[case.tasks] = random_suite.complete_suite(place, vectors.tasks, case.seed)
        return self.written[case, dtype]

    def context(self, vectors: TaskVectors, device: torch.device | None = None) -> Context:
        suite, place = self.suites.get(len(vectors.tasks)), device or torch.device("cpu")
        return Context(place, evaluator=Evaluator(suite, place) if suite else None)

    def merged(self, vectors: TaskVectors, device: torch.device | None = None) -> State:
        context = self.context(vectors, device)
        return dict(plan(vectors, self.pair, context).tensors(context))

    def of_each(self, cases: Sequence[Drawn], fault: Callable[[TaskVectors], str]) -> str:
        """The first fault, with the case that shows it; an exception is one."""
        for case in cases:
            try:
                reason = fault(self.models(case))
            except MergingError as error:
                reason = str(error)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
            if reason:
                return f"{reason} ({case})"
        return ""

    def steady(self, vectors: TaskVectors) -> str:
        return unsteady(self.merged(vectors), self.merged(vectors))

    def gives_back(self, vectors: TaskVectors) -> str:
        return differs(self.merged(vectors), dict(vectors.checkpoints[0]), 1e-4)

    def any_order(self, vectors: TaskVectors) -> str:
        turned = reordered(vectors, [*range(1, len(vectors.tasks)), 0])
        return differs(self.merged(turned), self.merged(vectors), 1e-3)

    def on_the_line(self, vectors: TaskVectors) -> str:
        equal = TaskVectors(vectors.base, (vectors.checkpoints[0],) * len(vectors.tasks), vectors.tasks)
        return beside(equal, self.merged(equal))

    def leaves_alone(self, vectors: TaskVectors) -> str:
        nothing = TaskVectors(vectors.base, (vectors.base,) * len(vectors.tasks), vectors.tasks)
        return touched(nothing, self.merged(nothing)) or touched(vectors, self.merged(vectors))

    def stored(self, case: Drawn, dtype: torch.dtype) -> str:
        vectors = self.models(case, dtype)
        found = self.merged(vectors)
        other = next((name for name, tensor in found.items() if tensor.dtype != dtype), None)
        if other is not None:
            return f"tensor {other!r} is {found[other].dtype} where the models are {dtype}"
        exact = write_models(
            self.folder / f"{dtype} exact",
            {name: tensor.float() for name, tensor in vectors.base.items()},
            [{name: tensor.float() for name, tensor in one.items()} for one in vectors.checkpoints],
        )
        return differs(found, self.merged(exact), _ROUNDING[dtype])

    def whole(self, case: Drawn) -> str:
        """Why pieces of tensors are no question; empty if they are, or if planning fails, which others tell."""
        if self.pair.edit.name == DEFAULTS["edit"]:
            return "a merge is given whole tensors"
        try:
            edit = self.planned_edit(self.models(case))
        except Exception:
            return ""
        return "" if getattr(edit, "elementwise", False) else "it does not say that it is elementwise"

    def planned_edit(self, vectors: TaskVectors) -> Edit:
        edit: Edit = self.pair.edit.stage.plan(vectors, self.pair.edit.params, self.context(vectors))
        return edit

    def in_pieces(self, vectors: TaskVectors) -> str:
        edit = self.planned_edit(vectors)
        for name in vectors.names:
            base, stack = (tensor.flatten(start) for start, tensor in enumerate(vectors.stack(name)))
            half = stack.shape[1] // 2
            whole = edit(name, base, stack.clone())
            parts = [edit(name, base[cut], stack[:, cut].clone()) for cut in (slice(half), slice(half, None))]
            if reason := differs({name: torch.cat(parts, dim=1)}, {name: whole}, 1e-6):
                return f"it is said to be elementwise, and in two pieces {reason}"
        return ""


def few(kind: Kind, name: str, values: Mapping[str, Any]) -> dict[str, int]:
    """The parameters of a stage that looks at images which :func:`check` sets, so that it takes seconds."""
    stage = find(kind, name)
    if not stage.data(values).images:
        return {}
    return {
        each: value
        for each, value in random_suite.FEW.items()
        if each in stage.params.model_fields and each not in values
    }


def check(kind: Kind, name: str, values: Mapping[str, Any] | None = None) -> list[TriedProperty]:
    """Try a stage on small random models, an edit with Task Arithmetic after it, λ = 1.

    One that looks at images is tried on whole small towers with random images, with a few of them and a few steps, see
    :func:`few`. Published methods need not have all of these: Iso-C makes singular values equal, so that one task does
    not give its model back.

    Args:
        kind: edit or merge.
        name: its name.
        values: its parameters; those left out have their defaults.

    Raises:
        SpecError: there is none, or a value is out of bounds.
    """
    parameters = {**(values or {}), **few(kind, name, values or {})}
    merge = "task_arithmetic" if kind == "edit" else name
    pair = Pair.of(name, parameters, merge) if kind == "edit" else Pair.of(merge=merge, merge_params=parameters)
    if find("merge", merge).params.scaling_name() is not None:
        pair = pair.with_scaling(1.0)
    return list(_findings(pair))


def _findings(pair: Pair) -> Iterator[TriedProperty]:
    device = devices.resolve(AUTO)
    why = "it gives a model for each task" if pair.localised else ""
    counts, kinds = ((1, 2, 3), ("free", "one zero", "some equal")) if pair.data.images else ((1, 2, 8), KINDS)
    cases = [Drawn(tasks, kind, 0.1, seed) for seed, kind in enumerate(kinds) for tasks in counts]
    free = [case for case in cases if case.kind == "free"]
    with TemporaryDirectory() as folder:
        trial = _Trial(pair, Path(folder))
        tried: dict[str, Callable[[], str]] = {
            "any models are merged to numbers, the same ones again": lambda: trial.of_each(cases, trial.steady),
            "one task gives its model back at λ = 1": lambda: trial.of_each(
                [case for case in cases if case.tasks == 1], trial.gives_back
            ),
            "the order of tasks does not matter": lambda: trial.of_each(cases, trial.any_order),
            "equal models change in their own direction": lambda: trial.of_each(free, trial.on_the_line),
            "what no task has changed stays": lambda: trial.of_each(cases, trial.leaves_alone),
            "float16 and bfloat16 models give such models, up to rounding": lambda: trial.of_each(
                free[1:2], lambda _: trial.stored(free[1], torch.float16) or trial.stored(free[1], torch.bfloat16)
            ),
        }
        for sentence, fault in tried.items():
            yield TriedProperty(sentence, "" if why else fault(), why)
        whole = why or trial.whole(free[0])
        pieces = "" if whole else trial.of_each(free, trial.in_pieces)
        yield TriedProperty("pieces of a tensor give pieces of its edit", pieces, whole)
        on_device = f"on {device} as on the processor" if device.type != "cpu" else "on an accelerator as here"
        finding = TriedProperty(on_device, left_out=why or "this machine has none" * (device.type == "cpu"))
        if not finding.left_out:
            finding = replace(
                finding,
                fault=trial.of_each(
                    cases, lambda vectors: differs(trial.merged(vectors, device), trial.merged(vectors), 1e-3)
                ),
            )
        yield finding
