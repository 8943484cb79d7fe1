"""Sweeps: many merges over methods, parameters and task subsets, and the best of them by validation accuracy."""

from merging.sweeps.definition import SweepDefinition, parse_definition, read_definition
from merging.sweeps.domains import Range
from merging.sweeps.store import Sweep, SweepStore, Trial

__all__ = ["Range", "Sweep", "SweepDefinition", "SweepStore", "Trial", "parse_definition", "read_definition"]
