"""RegMean: for every linear layer the weights that best repeat what each model's layer does (arXiv 2212.09849).

With X_t the inputs of a layer in task t's model, ``Σ_t ‖X_t W − X_t W_t‖²`` is smallest for
``W = (Σ G_t)⁻¹ Σ G_t W_t``, ``G_t = X_tᵀ X_t`` (equation 2; weights here are ``[out, in]``, the transpose).
"""

import torch
from pydantic import Field

from merging.evaluation.input_grams import input_grams
from merging.methods.context import Context
from merging.methods.layers import LAYERS, Layers
from merging.methods.params import Params
from merging.methods.planned import TensorMerge
from merging.methods.registry import merge
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


@merge("regmean", title="RegMean", paper="https://arxiv.org/abs/2212.09849", needs="unlabeled", averages=True)
def regmean(vectors: TaskVectors, params: RegMeanParams, context: Context) -> TensorMerge:
    """Fit every linear layer to what the layers of all models do with their own inputs.

    ``θ* = θ₀ + (Σ_t τ_t G_t)(Σ_t G_t)⁻¹``, G_t of the fine-tuned model as it is and τ_t as edited. A task's tokens are
    averaged, so that tasks with fewer images count the same. Where no model has any input the result is the mean, as
    for tensors that are no weight of a layer: biases, norms, embeddings, and as published ``conv1`` and ``proj``.
    """
    evaluator = context.need_images("RegMean", vectors.tasks)
    evaluator.require(vectors.tasks, "val")
    grams: dict[str, torch.Tensor] = {}  # Σ G_t
    products: dict[str, torch.Tensor] = {}  # Σ τ_t G_t
    for index, task in enumerate(vectors.tasks):
        context.step(index, len(vectors.tasks), f"inputs of {task}")
        model = vectors.checkpoints[index]
        found = input_grams(evaluator, model, task, params.images, context, params.layers == "all_linear")
        for name in sorted(found):
            gram = _shrunk(found.pop(name).to("cpu", torch.float64), params.off_diagonal)
            stack = vectors.stack(name, context.device)[1]
            vector = role_of(name, stack.shape[1:]).matrices(stack)[index]
            products[name] = vector.to("cpu", torch.float64) @ gram + products.get(name, 0)
            grams[name] = gram + grams.get(name, 0)
    merged = {}
    names = sorted(grams)
    for index, name in enumerate(names):
        context.step(index, len(names), "solving for the layers")
        merged[name] = _solved(grams.pop(name), products.pop(name), vectors, name)

    def apply(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        return base + (merged[name].to(base.device) if name in merged else stack.mean(dim=0))

    return TensorMerge(apply, {"layers": len(merged)})


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
