"""Published methods on the chosen suite and tasks: which of their runs exist already, and queueing the others."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from merging.methods import own
from merging.methods.presets import PRESETS, Preset
from merging.runs import Run
from merging.runs.jobs.merge import MergeSpec
from merging.runs.leaderboard import spec_of
from ui.runs.jobs import standing
from ui.shell import state

METHODS = ("task_arithmetic", "awd_ta", "adamerging", "awd_adamerging")


@dataclass(frozen=True)
class MethodEntry:
    """One method.

    Attributes:
        preset: its name, paper and parameters.
        spec: what to run.
        run: the run that did it, does it, or last failed to, or None if nobody has asked for it. What came with the
            suite stands until a run of one's own is done.
        again: one's own run that waits, is running, or ended badly, where what came with the suite stands meanwhile.
    """

    preset: Preset
    spec: MergeSpec
    run: Run | None
    again: Run | None = None

    @property
    def under_way(self) -> Run | None:
        """The run that is not done: that waits, is running, or ended badly."""
        return self.again or (None if self.done else self.run)

    @property
    def done(self) -> bool:
        """Whether its accuracy is there."""
        return self.run is not None and self.run.state == "done"

    @property
    def missing(self) -> bool:
        """Whether it has to be queued: never asked for, or ended without a result."""
        return self.run is None or not (self.run.active or self.done)


def comparison(tasks: Sequence[str]) -> list[MethodEntry]:
    """The four methods that the page Start compares."""
    return look_up([PRESETS[name] for name in METHODS], tasks)


def look_up(presets: Sequence[Preset], tasks: Sequence[str]) -> list[MethodEntry]:
    """Methods on some tasks of the chosen suite; looks runs up by their fingerprint and queues nothing.

    The device is resolved, so that runs of the command line are found too.
    """
    names = tuple(preset.name for preset in presets)
    specs = _specs(state.suite_reference(), names, tuple(tasks), str(state.device()), own.stamp())
    return [MethodEntry(*found) for found in zip(presets, specs, *standing(specs), strict=True)]


@st.cache_data(max_entries=64, show_spinner=False)
def _specs(suite: str, names: tuple[str, ...], tasks: tuple[str, ...], device: str, methods: str) -> list[MergeSpec]:
    return [spec_of(PRESETS[name], suite, tasks, device) for name in names]
