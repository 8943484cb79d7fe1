"""Weights of the base model beside those of a task model, for the first step of the lesson."""

from dataclasses import dataclass

import numpy as np
import streamlit as st

from ui.shell import state

_POINTS = 3000  # weights in the chart
_SEED = 0  # draws them


@dataclass(frozen=True)
class Weights:
    """Some weights of a model before and after fine-tuning, and how long all of them are.

    Attributes:
        base: ``[N]``.
        tuned: the same weights of the task model, ``[N]``.
        length: ‖θ₀‖ over the whole model.
        count: how many weights the model has.
    """

    base: np.ndarray
    tuned: np.ndarray
    length: float
    count: int


def weights_of(task: str) -> Weights:
    """Of the chosen suite's model for a task."""
    return _weights_of(state.suite_reference(), state.stamp(), task)


@st.cache_data(max_entries=64, show_spinner="Reading the weights …")
def _weights_of(reference: str, version: state.Stamp, task: str) -> Weights:
    vectors = state.workspace().vectors(state.suite(), (task,))
    random = np.random.default_rng(_SEED)
    wanted = np.sort(random.choice(vectors.size, min(_POINTS, vectors.size), replace=False))
    base, tuned, square, start = [], [], 0.0, 0
    for name in vectors.names:
        before, change = (tensor.double().reshape(-1).numpy() for tensor in vectors.stack(name))
        chosen = wanted[(wanted >= start) & (wanted < start + len(before))] - start
        base.append(before[chosen])
        tuned.append(before[chosen] + change[chosen])
        square += float(before @ before)
        start += len(before)
    return Weights(np.concatenate(base), np.concatenate(tuned), float(np.sqrt(square)), vectors.size)
