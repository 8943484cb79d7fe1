"""The comparison on the page Start: which methods, and which of their runs exist already."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from merging.pipeline import MergeSpec
from merging.runs import Run
from merging.workspace import Workspace

# (edit, edit parameters, merge, merge parameters): λ by validation, everything else at the published defaults
METHODS: tuple[tuple[str, dict[str, Any], str, dict[str, Any]], ...] = (
    ("none", {}, "task_arithmetic", {"scaling": "auto"}),
    ("none", {}, "adamerging", {}),
    ("awd", {}, "task_arithmetic", {"scaling": "auto"}),
    ("awd", {}, "adamerging", {}),
)


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


def comparison(workspace: Workspace, suite: str, tasks: Sequence[str], device: str) -> list[Entry]:
    """The comparison for some tasks of a suite; looks runs up by their fingerprint and queues nothing.

    Args:
        workspace: where runs are.
        suite: reference of the suite.
        tasks: which tasks to merge.
        device: a resolved device name, so that runs of the command line are found too.
    """
    entries = []
    for edit, edit_params, merge, merge_params in METHODS:
        spec = MergeSpec.build(
            suite=suite, tasks=tuple(tasks), edit=edit, edit_params=edit_params, merge=merge,
            merge_params=merge_params, device=device,
        )  # fmt: skip
        fingerprint = workspace.spec_fingerprint(spec)
        entries.append(Entry(spec, fingerprint, workspace.store.find(fingerprint)))
    return entries


def submit_missing(workspace: Workspace, entries: Sequence[Entry]) -> None:
    """Queue every method of a comparison that has no result and isn't on its way to one."""
    for entry in entries:
        if entry.missing:
            workspace.store.submit(entry.spec, entry.fingerprint)
