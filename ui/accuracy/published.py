"""Published methods on the chosen suite and tasks: which of their runs exist already, and queueing the others."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from merging.methods.presets import PRESETS, Preset
from merging.runs.jobs.merge import MergeSpec
from merging.runs import Run
from merging.runs.leaderboard import spec_of
from merging.runs.workspace import Workspace
from ui.shell import state

METHODS = ("task_arithmetic", "adamerging", "awd_ta", "awd_adamerging")


@dataclass(frozen=True)
class Entry:
    """One method.

    Attributes:
        preset: its name, paper and parameters.
        spec: what to run.
        fingerprint: identity of its result.
        run: the run that does or did it, or None if nobody has asked for it.
    """

    preset: Preset
    spec: MergeSpec
    fingerprint: str
    run: Run | None

    @property
    def done(self) -> bool:
        """Whether its accuracy is there."""
        return self.run is not None and self.run.state == "done"

    @property
    def missing(self) -> bool:
        """Whether it has to be queued: never asked for, or ended without a result."""
        return self.run is None or not (self.run.active or self.done)


def comparison(tasks: Sequence[str]) -> list[Entry]:
    """The four methods that the page Start compares."""
    return look_up([PRESETS[name] for name in METHODS], tasks)


def look_up(presets: Sequence[Preset], tasks: Sequence[str]) -> list[Entry]:
    """Methods on some tasks of the chosen suite; looks runs up by their fingerprint and queues nothing.

    The device is resolved, so that runs of the command line are found too.
    """
    names = tuple(preset.name for preset in presets)
    found = _identified(
        state.workspace(), state.suite_reference(), names, tuple(tasks), str(state.device()), state.stamp()
    )
    store = state.workspace().store
    return [
        Entry(preset, spec, print_, store.find(print_)) for preset, (spec, print_) in zip(presets, found, strict=True)
    ]


@st.cache_data(max_entries=64, show_spinner=state.READING)
def _identified(
    _workspace: Workspace, suite: str, names: tuple[str, ...], tasks: tuple[str, ...], device: str, version: state.Stamp
) -> list[tuple[MergeSpec, str]]:
    """Specifications and fingerprints; known until a file of the suite changes."""
    specs = [spec_of(PRESETS[name], suite, tasks, device) for name in names]
    return [(spec, _workspace.spec_fingerprint(spec)) for spec in specs]


def submit_missing(entries: Sequence[Entry]) -> None:
    """Queue every method that has no result and isn't on its way to one, in the order given."""
    for entry in entries:
        if entry.missing:
            state.workspace().store.submit(entry.spec, entry.fingerprint)
