"""RegMean: for every linear layer the weights that best repeat what each model's layer does (arXiv 2212.09849).

With X_t the inputs of a layer in task t's model, ``Σ_t ‖X_t W − X_t W_t‖²`` is smallest for
``W = (Σ G_t)⁻¹ Σ G_t W_t``, ``G_t = X_tᵀ X_t`` (equation 2; weights here are ``[out, in]``, the transpose).
"""

from collections.abc import Collection, Mapping
from itertools import groupby

import torch
from pydantic import Field

from merging.evaluation.input_grams import input_grams
from merging.methods.calibration import CALIBRATION
from merging.methods.context import Context
from merging.methods.layers import LAYERS, Layers, calibrated_tensor
from merging.methods.looks import BROWN, Look
from merging.methods.params import Params
from merging.methods.planned import TensorMerge
from merging.methods.registry import Published, merge
from merging.weights.geometry import block_of, network_order
from merging.weights.roles import role_of
from merging.weights.spectra import solve_positive
from merging.weights.vectors import TaskVectors


class RegMeanParams(Params):
    """The layers, the images, and how far the Gram matrices are trusted."""

    images: int = Field(256, ge=1, le=10_000, description="Unlabeled validation images a task.")
    off_diagonal: float = Field(
        0.95,
        ge=0,
        le=0.999,
        title="Off-diagonals ×",
        description="Factor of the Gram matrices' off-diagonal entries; below 1 they are invertible however few the "
        "images.",
    )
    layers: Layers = LAYERS
    calibration: float = CALIBRATION


@merge("regmean", title="RegMean", paper="https://arxiv.org/abs/2212.09849", needs="unlabeled", averages=True)
def regmean(vectors: TaskVectors, params: RegMeanParams, context: Context) -> TensorMerge:
    """Fit every linear layer to what the layers of all models do with their own inputs.

    ``θ* = θ₀ + (Σ_t τ_t G_t)(Σ_t G_t)⁻¹``, G_t of the fine-tuned model as it is and τ_t as edited. A task's tokens are
    averaged, so that tasks with fewer images count the same. Where no model has any input the result is the mean, as
    for tensors that are no weight of a layer: biases, norms, embeddings, and as published ``conv1`` and ``proj``.
    """
    layers = _Layers("RegMean", vectors, params, context)
    for index, task in enumerate(vectors.tasks):
        context.step(index, len(vectors.tasks), f"inputs of {task}")
        layers.see(index, vectors.checkpoints[index])
    return _with_means(layers.solved(), params)


@merge(
    "regmean_plus_plus",
    title="RegMean++",
    paper="https://arxiv.org/abs/2508.03121",
    needs="unlabeled",
    averages=True,
    published=(
        Published("regmean_plus_plus", "RegMean++", "merge=regmean_plus_plus", look=Look(BROWN, "square", "\\")),
    ),
)
def regmean_plus_plus(vectors: TaskVectors, params: RegMeanParams, context: Context) -> TensorMerge:
    """Fit the linear layers block by block, each to its inputs behind the blocks that are merged already.

    ``θ* = θ₀ + (Σ_t τ_t G_t)(Σ_t G_t)⁻¹`` as RegMean, with G_t of task t's own block behind merged ones: first what
    comes before the blocks is merged, then block after block; the images of every task go through the merged part, then
    through that block of their own model, whose layers' inputs give G_t. In RegMean each model's own earlier blocks
    come before, which the merged model does not have.
    """
    layers = _Layers("RegMean++", vectors, params, context)
    model = {name: vectors.base[name] for name in vectors.base}
    for name, base, stack in vectors.iterate():
        model[name] = base + stack.mean(dim=0)
    merged: dict[str, torch.Tensor] = {}
    stages = _stages(vectors, params.layers == "all_linear")
    for number, (names, watched) in enumerate(stages):
        for index, task in enumerate(vectors.tasks):
            context.step(number * len(vectors.tasks) + index, len(stages) * len(vectors.tasks), f"inputs of {task}")
            own = vectors.checkpoints[index]
            layers.see(index, {**model, **{name: own[name] for name in names}}, watched)
        for name, update in layers.solved().items():
            merged[name] = update
            model[name] = vectors.base[name].float() + update
    return _with_means(merged, params)


def _stages(vectors: TaskVectors, everything: bool) -> list[tuple[list[str], list[str]]]:
    """The parts of the tower in which layers are fitted, in order: names of all tensors, and of those fitted."""
    order = [vectors.names[index] for index in network_order(vectors.names)]
    stages = []
    for part, names in ((part, list(names)) for part, names in groupby(order, block_of)):
        layers = [name for name in names if role_of(name, vectors.info(name).shape).linear]
        if layers and (everything or part not in ("stem", "output")):
            stages.append((names, layers))
    return stages


def _with_means(merged: Mapping[str, torch.Tensor], params: RegMeanParams) -> TensorMerge:
    """The merge that adds these updates, and to all other tensors the mean of the task vectors."""

    def apply(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        update = merged[name].to(base.device) if name in merged else stack.mean(dim=0)
        if params.calibration:
            role = role_of(name, base.shape)
            update = calibrated_tensor(params.layers, role, update, stack, params.calibration)
        return base + update

    return TensorMerge(apply, {"layers": len(merged)})


class _Layers:
    """Sums over tasks for the layers seen so far, from which their weights follow."""

    def __init__(self, method: str, vectors: TaskVectors, params: RegMeanParams, context: Context) -> None:
        self._vectors, self._params, self._context = vectors, params, context
        self._evaluator = context.need_images(method, vectors.tasks)
        self._evaluator.require(vectors.tasks, "val")
        self._grams: dict[str, torch.Tensor] = {}  # Σ G_t
        self._products: dict[str, torch.Tensor] = {}  # Σ τ_t G_t

    def see(self, index: int, model: Mapping[str, torch.Tensor], only: Collection[str] = ()) -> None:
        """Add what reaches some layers of a model on a task's images; all layers by default."""
        params, context, task = self._params, self._context, self._vectors.tasks[index]
        everything = params.layers == "all_linear"
        found = input_grams(self._evaluator, model, task, params.images, context, everything, only)
        for name in sorted(found):
            gram = _shrunk(found.pop(name).to("cpu", torch.float64), params.off_diagonal)
            stack = self._vectors.stack(name, context.device)[1]
            vector = role_of(name, stack.shape[1:]).matrices(stack)[index]
            self._products[name] = vector.to("cpu", torch.float64) @ gram + self._products.get(name, 0)
            self._grams[name] = gram + self._grams.get(name, 0)

    def solved(self) -> dict[str, torch.Tensor]:
        """The updates of the layers seen, as tensors are stored; afterwards none are."""
        merged = {}
        names = sorted(self._grams)
        for index, name in enumerate(names):
            self._context.step(index, len(names), "solving for the layers")
            merged[name] = _solved(self._grams.pop(name), self._products.pop(name), self._vectors, name)
        return merged


def _shrunk(gram: torch.Tensor, factor: float) -> torch.Tensor:
    """Off-diagonal entries times a factor."""
    return factor * gram + (1 - factor) * gram.diagonal().diag()


def _solved(gram: torch.Tensor, product: torch.Tensor, vectors: TaskVectors, name: str) -> torch.Tensor:
    """``product · gram⁻¹``, float32, as the tensor is stored, with the mean where no input ever reached it."""
    silent = gram.diagonal() == 0
    role = role_of(name, vectors.info(name).shape)
    if bool(silent.any()):
        mean = role.matrices(vectors.stack(name)[1]).mean(dim=0)
        product[:, silent] = mean[:, silent].to(torch.float64)
        gram[silent, silent] = 1.0
    return role.stored(solve_positive(gram, product).float())
