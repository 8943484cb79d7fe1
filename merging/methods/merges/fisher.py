"""Fisher merging: weigh every entry of every model by how much its predictions depend on it (arXiv 2111.09832).

Models differ in how much their predictions depend on weights at all: a model that is unsure of its task has large
Fisher information everywhere, and outvotes the others. The paper's formula leaves that as it is; FusionBench, as the
code of several later papers, first brings every model's to the same length, ``F_t / ‖F_t‖`` over the whole model.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field

from merging.evaluation.gradients import fisher_information
from merging.methods.context import Context
from merging.methods.params import OnValidation, Params
from merging.methods.planned import TensorMerge
from merging.methods.registry import merge
from merging.methods.scaling import Coefficient, scaled
from merging.weights.vectors import TaskVectors


class FisherParams(Params):
    """How the Fisher information is estimated and weighed, and how far to go along the merged update."""

    images: int = Field(256, ge=1, le=10_000, description="Unlabeled validation images a task.")
    floor: float = Field(1e-6, gt=0, le=1, description="Added to every weight, relative to their mean over the model.")
    normalise: Literal["none", "length"] = Field(
        "none",
        description="none: each model's information as it is, the paper's formula. length: brought to length 1 over "
        "the whole model first, FusionBench's default.",
        exclude_if=lambda value: value == "none",
    )
    scaling: Annotated[Coefficient | Literal["auto"], OnValidation()] = Field(
        1.0,
        title="λ",
        description="Multiplier of the merged update. Published is none, 1, and so are presets and leaderboards. auto: "
        "chosen on the validation split.",
        exclude_if=lambda value: value == 1.0,
    )


@merge(
    "fisher",
    title="Fisher merging",
    paper="https://arxiv.org/abs/2111.09832",
    needs="unlabeled",
    unedited="its weights are the Fisher information of the fine-tuned models, not of edited ones",
)
def fisher(vectors: TaskVectors, params: FisherParams, context: Context) -> TensorMerge:
    """Average the models entry by entry, weighted by their diagonal Fisher information.

    ``θ* = θ₀ + λ Σ F_t τ_t / Σ F_t``, with F_t the expected squared gradient of the log-likelihood at θ_t; the
    expectation is over the model's own predictions. Where no task has any, the floor makes it the plain mean.
    """
    evaluator = context.need_images("Fisher merging", vectors.tasks)
    evaluator.require(vectors.tasks, "val")
    numerator: dict[str, torch.Tensor] = {}
    denominator: dict[str, torch.Tensor] = {}
    for index, task in enumerate(vectors.tasks):
        context.step(index, len(vectors.tasks), f"Fisher information of {task}")
        information = fisher_information(evaluator, vectors.checkpoints[index], task, params.images, context)
        if params.normalise == "length":
            length = sum(float(f.double().square().sum()) for f in information.values()) ** 0.5
            information = {name: f / length if length else f for name, f in information.items()}
        mean = sum(float(f.sum()) for f in information.values()) / max(1, vectors.size)
        for name in vectors.names:
            stack = vectors.stack(name)[1]
            weight = information.get(name, torch.zeros(stack.shape[1:])).cpu() + params.floor * max(mean, 1e-30)
            numerator[name] = weight * stack[index] + numerator.get(name, 0)
            denominator[name] = weight + denominator.get(name, 0)

    def direction(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        return (numerator[name] / denominator[name]).to(base.device)

    return scaled(vectors, params.scaling, direction, context)
