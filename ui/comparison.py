"""The comparison on the page Start: which methods, and which of their runs exist already."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from merging.pipeline import MergeSpec
from merging.presets import PRESETS
from merging.runs import Run
from merging.workspace import Workspace
from ui import state

METHODS = ("task_arithmetic", "adamerging", "awd_ta", "awd_adamerging")


@dataclass(frozen=True)
class Entry:
    """One method of the comparison.

    Attributes:
        spec: what to run.
        fingerprint: identity of its result.
        run: the run that does or did it, or None if nobody has asked for it.
    """

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
    """The comparison for some tasks of the chosen suite; looks runs up by their fingerprint and queues nothing.

    The device is resolved, so that runs of the command line are found too.
    """
    specs = _identified(state.workspace(), state.suite_reference(), tuple(tasks), str(state.device()), state.stamp())
    return [Entry(spec, print_, state.workspace().store.find(print_)) for spec, print_ in specs]


@st.cache_data(max_entries=64, show_spinner=False)
def _identified(
    _workspace: Workspace, suite: str, tasks: tuple[str, ...], device: str, version: state.Stamp
) -> list[tuple[MergeSpec, str]]:
    """Specifications and fingerprints; known until a file of the suite changes."""
    specs = [
        MergeSpec.build(suite=suite, tasks=tasks, device=device, **PRESETS[name].spec_fields()) for name in METHODS
    ]
    return [(spec, _workspace.spec_fingerprint(spec)) for spec in specs]


def submit_missing(entries: Sequence[Entry]) -> None:
    """Queue every method of a comparison that has no result and isn't on its way to one."""
    for entry in entries:
        if entry.missing:
            state.workspace().store.submit(entry.spec, entry.fingerprint)
