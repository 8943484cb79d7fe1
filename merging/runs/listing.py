"""Finding runs among thousands: what of them is searched, filtered and sorted by, without reading their results.

The table ``listed`` holds that of every run. It is no more than a copy: whoever looks first brings it up to date, for
runs whose state or fingerprint has changed, of imported ones and of those that a version before it made.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args
from weakref import WeakKeyDictionary

from merging.core.errors import RunError
from merging.core.version import __version__
from merging.methods import own
from merging.runs.jobs import MergeSpec
from merging.runs.run import Run, UnreadableRun
from merging.runs.table import RunStore, run_of_row

Sort = Literal["newest", "oldest", "best", "longest", "name"]
SORTS: tuple[Sort, ...] = get_args(Sort)
_MERGE, _OTHER, _UNREADABLE = "merge", "other", "unreadable"
_LISTED = ("accuracy", "average", "forgetting", "fingerprints", "revisions", "sources")
_AT_ONCE = 200  # rows whose results are in memory while the copy is brought up to date
_KEPT_BYTES = 32 * 2**20  # of results that are kept once read, as text


class Facts(NamedTuple):
    """What is known of a merge without its result.

    Attributes:
        id: as the following, see :class:`merging.runs.run.Run`.
        method: what the run is called.
        score: mean accuracy, 0 … 1; None where nothing was measured.
        base: content of the base that its accuracies were measured on; empty if there are none.
        took: seconds from start to end.
        tags: as JSON.
    """

    id: str
    fingerprint: str
    state: str
    created: float
    suite: str
    method: str
    score: float | None
    base: str
    took: float | None
    person: str
    machine: str
    name: str
    note: str
    tags: str
    star: int
    shipped: bool = False

    @property
    def text(self) -> str:
        """What a search looks through."""
        tags = " ".join(json.loads(self.tags))
        parts = (self.id, self.name, self.note, tags, self.method, self.suite, self.person, self.machine)
        return "\n".join(parts).casefold()


# What was listed last, with the number of lines of the copy and the last one's: no line is ever changed in place.
_known: WeakKeyDictionary[RunStore, tuple[int, int, list[Facts]]] = WeakKeyDictionary()
_kept: WeakKeyDictionary[RunStore, dict[str, tuple[Facts, Run]]] = WeakKeyDictionary()
_COLUMNS = ", ".join(
    f"runs.{name}" if name in ("id", "fingerprint", "state", "created") else f"listed.{name}"
    for name in Facts._fields
    if name != "shipped"
)
# Column → what a filter calls it.
FILTERS = {
    "suites": "suite",
    "methods": "method",
    "states": "state",
    "people": "person",
    "machines": "machine",
}


@dataclass(frozen=True)
class View:
    """Which merges somebody wants to see, in which order; all of them as long as nothing is said.

    Attributes:
        search: words that all stand in a run's name, note, tags, method, suite, person, machine or id.
        suites: names of suites, one of which it is of; empty for any, as in the following.
        methods: what it may be called.
        tags: all of which it has.
        states: one of which it is in.
        people: one of whom asked for it.
        machines: on one of which it was asked for.
        since: seconds since the epoch before which it was not asked for.
        starred: whether it is marked with a star.
        sort: the order.
    """

    search: str = ""
    suites: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    since: float | None = None
    starred: bool = False
    sort: Sort = "newest"

    def of(self, facts: Iterable[Facts]) -> list[Facts]:
        """Those of some runs that are wanted, in order."""
        for test in self._tests():
            facts = filter(test, facts)
        return sorted(facts, key=_KEYS[self.sort])

    def _tests(self) -> Iterator[Callable[[Facts], bool]]:
        for name, column in FILTERS.items():
            wanted = frozenset(getattr(self, name))
            if wanted:
                place = Facts._fields.index(column)
                yield lambda one, place=place, wanted=wanted: one[place] in wanted  # type: ignore[misc]
        if self.starred:
            yield lambda one: bool(one.star)
        if self.since is not None:
            since = self.since
            yield lambda one: one.created >= since
        if self.tags:
            tags = frozenset(self.tags)
            yield lambda one: tags <= frozenset(json.loads(one.tags))
        words = self.search.casefold().split()
        if words:
            yield lambda one: _holds(one.text, words)


def _holds(text: str, words: Sequence[str]) -> bool:
    return all(word in text for word in words)


def _origin(one: Facts) -> tuple[bool, str]:
    """What came with suites stands behind what was done here, suite by suite: when each was built tells nobody much."""
    return one.shipped, one.suite if one.shipped else ""


# All but those by time mix both.
_KEYS: Mapping[Sort, Callable[[Facts], Any]] = {
    "newest": lambda one: (_origin(one), -one.created),
    "oldest": lambda one: (_origin(one), one.created),
    "best": lambda one: (one.score is None, -(one.score or 0.0), -one.created),
    "longest": lambda one: (one.took is None, -(one.took or 0.0), -one.created),
    "name": lambda one: ((one.name or one.method).casefold(), -one.created),
}


def listing(store: RunStore) -> list[Facts]:
    """All merges, newest first, and behind them those that came with suites and that nobody has done here."""
    store.mark_lost()
    _bring_up_to_date(store)
    with store.connect() as connection:
        count, last = connection.execute("select count(*), max(number) from listed").fetchone()
        known = _known.get(store)
        if known is not None and known[:2] == (count, last):
            return list(known[2])
        rows = connection.execute(
            f"select {_COLUMNS} from runs join listed on listed.run = runs.id where listed.kind = ? "
            "order by runs.created desc, runs.rowid desc",
            (_MERGE,),
        ).fetchall()
    own_runs = [Facts._make((*row, False)) for row in rows]
    done = {one.fingerprint for one in own_runs if one.state == "done"}
    found = [*own_runs, *(facts for facts in _shipped(store) if facts.fingerprint not in done)]
    _known[store] = (count, last, found)
    return list(found)


def others(store: RunStore) -> int:
    """How many jobs of other kinds than merges are kept, which no list shows."""
    _bring_up_to_date(store)
    with store.connect() as connection:
        return int(connection.execute("select count(*) from listed where kind = ?", (_OTHER,)).fetchone()[0])


def _shipped(store: RunStore) -> list[Facts]:
    found: list[Facts] = []
    for run in store.shipped.merges():
        values = _values(run)
        copied = (values[name] for name in _COPIED)
        found.append(Facts._make((run.id, run.fingerprint, run.state, run.created, *copied, True)))
    return found


_COPIED = Facts._fields[4:-1]


def choices(facts: Iterable[Facts]) -> dict[str, list[str]]:
    """Filter → the values that there are, in alphabetical order; empty ones left out."""
    facts = list(facts)
    found = {name: {getattr(one, column) for one in facts} - {""} for name, column in FILTERS.items()}
    found["tags"] = {tag for text in {one.tags for one in facts} for tag in json.loads(text)}
    return {name: sorted(values, key=str.casefold) for name, values in found.items()}


def read_runs(store: RunStore, facts: Sequence[Facts]) -> list[Run]:
    """Whole runs, in this order; those that were deleted in the meantime are left out.

    Runs that have ended are kept in memory, within bounds, as long as the facts stay the same.
    """
    kept = _kept.setdefault(store, {})
    known = {one.id: kept[one.id][1] for one in facts if kept.get(one.id, (None,))[0] == one}
    fresh = {one.id: one for one in facts if not one.shipped and one.id not in known}
    found = _rows(store, list(fresh))
    for run_id, run in found.items():
        if not run.active:
            kept.pop(run_id, None)
            kept[run_id] = (fresh[run_id], run)
    _forget_oldest(kept)
    read = {**known, **found}
    wholes = [store.shipped.get(one.id) if one.shipped else read.get(one.id) for one in facts]
    return [run for run in wholes if run is not None]


def _forget_oldest(kept: dict[str, tuple[Facts, Run]]) -> None:
    total = sum(len(run.result_json or "") for _, run in list(kept.values()))
    for run_id in list(kept):
        if total <= _KEPT_BYTES:
            return
        entry = kept.pop(run_id, None)
        total -= len(entry[1].result_json or "") if entry else 0


def _rows(store: RunStore, ids: Sequence[str]) -> dict[str, Run]:
    if not ids:
        return {}
    with store.connect() as connection:
        rows = connection.execute(
            "select * from runs where id in (select value from json_each(?))", (json.dumps(ids),)
        ).fetchall()
    return {row["id"]: run for row in rows if isinstance(run := _read(row), Run)}


def unreadable(store: RunStore) -> list[UnreadableRun]:
    """Rows that are in no listing since they can't be read, newest first; they can still be deleted."""
    store.mark_lost()
    _bring_up_to_date(store)
    with store.connect() as connection:
        rows = connection.execute(
            "select runs.id, runs.state, runs.created, listed.note from runs join listed on listed.run = runs.id "
            "where listed.kind = ? order by runs.created desc, runs.rowid desc",
            (_UNREADABLE,),
        ).fetchall()
    found = ((row, str(row["note"]).removeprefix(f"run {row['id']} can't be read: ")) for row in rows)
    return [UnreadableRun(row["id"], row["state"], row["created"], reason) for row, reason in found]


# --- the copy ----------------------------------------------------------------------------------------------------


def _bring_up_to_date(store: RunStore) -> None:
    """Read what of the table's runs is not in the copy, or was otherwise when it was made."""
    version = f"{__version__} {own.stamp()}"
    stamp = "runs.fingerprint || ' ' || runs.state || ' ' || ?"
    with store.connect() as connection:
        lacking = connection.execute(
            f"select runs.id from runs left join listed on listed.run = runs.id where listed.stamp is not {stamp}",
            (version,),
        ).fetchall()
    ids = [str(row["id"]) for row in lacking]
    for start in range(0, len(ids), _AT_ONCE):
        with store.connect() as connection:
            rows = connection.execute(
                f"select runs.*, {stamp} as stamp from runs where id in (select value from json_each(?))",
                (version, json.dumps(ids[start : start + _AT_ONCE])),
            ).fetchall()
        entries = [_entry(row) for row in rows]
        with store.writing() as connection:
            for entry in entries:
                connection.execute("delete from listed where run = ?", (entry["run"],))
                marks = ", ".join("?" for _ in entry)
                connection.execute(f"insert into listed ({', '.join(entry)}) values ({marks})", tuple(entry.values()))


def _entry(row: sqlite3.Row) -> dict[str, Any]:
    """A row's line of the copy."""
    entry: dict[str, Any] = {"run": row["id"], "stamp": row["stamp"]}
    run = _read(row)
    if isinstance(run, str):
        return {**entry, "kind": _UNREADABLE if _may_be_a_merge(row["spec"]) else _OTHER, "note": run}
    if not isinstance(run.job, MergeSpec):
        return {**entry, "kind": _OTHER}
    return {**entry, "kind": _MERGE, **_values(run)}


def _read(row: sqlite3.Row) -> Run | str:
    """A row as a run, or why it can't be read."""
    try:
        return run_of_row(row)
    except RunError as error:
        return str(error)


def _may_be_a_merge(spec: object) -> bool:
    """Whether an unreadable row may be a merge: first versions named no kind of job, and damage may hide it."""
    try:
        fields = json.loads(str(spec))
    except ValueError:
        return True
    return not isinstance(fields, dict) or fields.get("job") in (None, "merge")


def _values(run: Run) -> dict[str, Any]:
    run = _lightened(run)
    result = run.merged
    return {
        "suite": run.spec.suite_name,
        "method": run.label,
        "score": result.score if result else None,
        "base": next(iter(result.fingerprints.values()), "") if result and result.accuracy else "",
        "took": run.finished - run.started if run.finished and run.started else None,
        "person": run.person,
        "machine": run.machine,
        "name": run.name,
        "note": run.note,
        "tags": json.dumps(run.tags, ensure_ascii=False),
        "star": int(run.star),
    }


def _lightened(run: Run) -> Run:
    """A run with no more of its result than is listed, none if that can't be read."""
    try:
        values = json.loads(run.result_json or "{}")
        light = replace(run, result_json=json.dumps({key: values[key] for key in _LISTED if key in values}))
        return light if run.result_json and light.merged else replace(run, result_json=None)
    except (RunError, ValueError, TypeError):  # said where the run is looked at
        return replace(run, result_json=None)


def hide(facts: Iterable[Facts], fingerprints: Collection[str], but: Collection[str] = ()) -> list[Facts]:
    """Runs without those of some fingerprints, unless they are named."""
    return [one for one in facts if one.fingerprint not in fingerprints or one.id in but]
