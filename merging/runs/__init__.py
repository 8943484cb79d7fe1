"""Runs: a specification, its state, and what came of it."""

from merging.runs.store import Run, RunStore, State

__all__ = ["Run", "RunStore", "State"]
