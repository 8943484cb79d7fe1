"""Fisher merging: weigh every entry of every model by how much its predictions depend on it (arXiv 2111.09832)."""

import torch
from pydantic import Field

from merging.evaluation.gradients import fisher_information
from merging.methods.context import Context
from merging.methods.params import Params
from merging.methods.planned import TensorMerge
from merging.methods.registry import merge
from merging.weights.vectors import TaskVectors


class FisherParams(Params):
    """How the Fisher information is estimated."""

    images: int = Field(256, ge=1, le=10_000, description="Unlabeled validation images a task.")
    floor: float = Field(1e-6, gt=0, le=1, description="Added to every weight, relative to their mean over the model.")


@merge(
    "fisher",
    title="Fisher merging",
    paper="https://arxiv.org/abs/2111.09832",
    needs="unlabeled",
    unedited="its weights are the Fisher information of the fine-tuned models, not of edited ones",
)
def fisher(vectors: TaskVectors, params: FisherParams, context: Context) -> TensorMerge:
    """Average the models entry by entry, weighted by their diagonal Fisher information.

    ``θ* = θ₀ + Σ F_t τ_t / Σ F_t``, with F_t the expected squared gradient of the log-likelihood at θ_t; the
    expectation is over the model's own predictions. Where no task has any, the floor makes it the plain mean.
    """
    evaluator = context.need_images("Fisher merging", vectors.tasks)
    evaluator.require(vectors.tasks, "val")
    numerator: dict[str, torch.Tensor] = {}
    denominator: dict[str, torch.Tensor] = {}
    for index, task in enumerate(vectors.tasks):
        context.step(index, len(vectors.tasks), f"Fisher information of {task}")
        information = fisher_information(evaluator, vectors.checkpoints[index], task, params.images, context)
        mean = sum(float(f.sum()) for f in information.values()) / max(1, vectors.size)
        for name in vectors.names:
            stack = vectors.stack(name)[1]
            weight = information.get(name, torch.zeros(stack.shape[1:])).cpu() + params.floor * max(mean, 1e-30)
            numerator[name] = weight * stack[index] + numerator.get(name, 0)
            denominator[name] = weight + denominator.get(name, 0)

    def apply(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        return base + (numerator[name] / denominator[name]).to(base.device)

    return TensorMerge(apply)
