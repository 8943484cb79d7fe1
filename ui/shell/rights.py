"""Who may do what on a dashboard that is shared, in one table.

Pages ask :func:`ui.shell.session.may` before they draw a button; whoever does what a button says asks once more
(:func:`ui.shell.session.require`, and :mod:`ui.shell.guard` for all that changes runs).
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

Role = Literal["owner", "guest"]
Extent = Literal["all", "own", "none"]


class Act(Enum):
    """What people do on pages."""

    LOOK = auto()
    EXPLORE = auto()
    QUEUE = auto()
    CANCEL = auto()
    RENAME = auto()
    DELETE = auto()
    REMOVE = auto()
    EXPORT = auto()
    SWEEP = auto()
    TYPE_PATHS = auto()
    SEE_FOLDERS = auto()
    ADD_SUITES = auto()
    ADD_METHODS = auto()
    TEACH = auto()
    SHARED_SETTINGS = auto()


@dataclass(frozen=True)
class Right:
    """Who may do an act.

    Attributes:
        words: the act, as it follows *may*.
        owner: whether the owner may do it on pages; elsewhere they may do everything.
        guest: what guests may do it to: everything, what they asked for themselves, or nothing.
        note: what to say besides.
    """

    words: str
    owner: bool
    guest: Extent
    note: str = ""


RIGHTS: dict[Act, Right] = {
    Act.LOOK: Right("look at suites, runs, sweeps, results; download tables, charts and reports", True, "all"),
    Act.EXPLORE: Right("move sliders, try merges on What if, take the lesson", True, "all"),
    Act.QUEUE: Right("queue a run on a suite that is shown, or the same again", True, "all", "within the limits"),
    Act.CANCEL: Right("cancel a run, or end it with what it has", True, "own"),
    Act.RENAME: Right("name a run, write notes and tags on it", True, "own"),
    Act.DELETE: Right("delete a run, or replace its result", True, "own"),
    Act.REMOVE: Right("remove a deleted run for good, before its day is over", True, "none"),
    Act.EXPORT: Right("export a run's weights", True, "own"),
    Act.SWEEP: Right("start, cancel and delete sweeps", True, "none"),
    Act.TYPE_PATHS: Right("type a path or an address; have something written into a folder", True, "none"),
    Act.SEE_FOLDERS: Right("see folders of the machine and the log of a failed run", True, "none"),
    Act.ADD_SUITES: Right("add a suite, download or convert models, have files checked", True, "none"),
    Act.ADD_METHODS: Right("add methods of one's own", False, "none", "only whoever starts the dashboard, by name"),
    Act.TEACH: Right("put a question to the class, keep a prepared lesson", True, "none"),
    Act.SHARED_SETTINGS: Right("change what holds for all who look", True, "none"),
}


def allowed(act: Act, role: Role, own: bool = False) -> bool:
    """Whether somebody may do something on a page.

    Args:
        act: what.
        role: who, as what.
        own: whether it is done to what they asked for themselves.
    """
    right = RIGHTS[act]
    return right.owner if role == "owner" else right.guest == "all" or (right.guest == "own" and own)


_SAID: dict[Extent, str] = {"all": "yes", "own": "their own", "none": "no"}


def rows() -> list[list[str]]:
    """The table as ``docs/hosting.md`` has it: act, owner, guests, note."""
    return [[right.words, "yes" if right.owner else "no", _SAID[right.guest], right.note] for right in RIGHTS.values()]
