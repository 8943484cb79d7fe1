"""Weight averaging: the mean of the fine-tuned models."""

import numpy as np

from merging.methods.context import Context
from merging.methods.params import Params
from merging.methods.planned import LinearMerge
from merging.methods.registry import merge
from merging.weights.vectors import TaskVectors


class AverageParams(Params):
    """Nothing to set."""


@merge("average", title="Weight averaging", paper="https://arxiv.org/abs/2203.05482", averages=True)
def average(vectors: TaskVectors, params: AverageParams, context: Context) -> LinearMerge:
    """Add the mean of the task vectors to the base model."""
    weights = np.full(len(vectors.tasks), 1 / len(vectors.tasks))
    return LinearMerge(dict.fromkeys(vectors.names, weights))
