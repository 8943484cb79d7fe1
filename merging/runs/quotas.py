"""Whether there is room for one run more of somebody who shares a dashboard."""

import os
from contextlib import suppress
from pathlib import Path

from merging.core.errors import RunError
from merging.core.guests import Limits
from merging.core.text import counted
from merging.runs.deleted import deleted_runs
from merging.runs.table import RunStore


def require_room(store: RunStore, limits: Limits, person: str) -> None:
    """Insist that a person may queue one run more.

    Raises:
        RunError: too many wait, or the disk is full; with what to do.
    """
    waiting = _waiting(store)
    own, every = waiting.get(person, 0), sum(waiting.values())
    if own >= limits.runs_per_person:
        raise RunError(
            f"{counted(own, 'run')} of yours {'waits' if own == 1 else 'wait'} already, and a person may have "
            f"{limits.runs_per_person} waiting here; ask again once one has started, or cancel one"
        )
    if every >= limits.runs:
        raise RunError(
            f"{counted(every, 'run')} {'waits' if every == 1 else 'wait'} already, and {limits.runs} may wait here in "
            "all; ask again later"
        )
    held = _bytes_below(store.home)
    if held >= limits.disk:
        raise RunError(
            f"the dashboard's folder holds {held / 1e9:.3g} GB and may hold {limits.disk / 1e9:.3g} GB, so that "
            "nothing is queued any more; the owner can delete runs and remove what was deleted for good"
        )
    mine = sum(_bytes_below(store.folder(run_id)) for run_id in _runs_of(store, person))
    if mine >= limits.disk_per_person:
        raise RunError(
            f"your runs hold {mine / 1e9:.3g} GB here, and those of a person may hold "
            f"{limits.disk_per_person / 1e9:.3g} GB; delete some of them, whose files go a day "
            "later, or when the owner removes them for good"
        )


def _waiting(store: RunStore) -> dict[str, int]:
    """Person → how many runs of theirs wait."""
    with store.connect() as connection:
        rows = connection.execute(
            "select person, count(*) as number from runs where state = 'queued' group by person"
        ).fetchall()
    return {row["person"]: row["number"] for row in rows}


def _runs_of(store: RunStore, person: str) -> list[str]:
    """Ids of somebody's runs, and of those that were deleted within a day, whose files are still there."""
    with store.connect() as connection:
        rows = connection.execute("select id from runs where person = ?", (person,)).fetchall()
    return [*(row["id"] for row in rows), *(one.id for one in deleted_runs(store) if one.person == person)]


def _bytes_below(folder: Path) -> int:
    """Bytes of all files below a folder, links not followed; those that go meanwhile count nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total
