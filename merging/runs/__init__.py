"""Runs: a specification, its state, and what came of it."""

from merging.runs.run import Run, State
from merging.runs.table import RunStore

__all__ = ["Run", "RunStore", "State"]
