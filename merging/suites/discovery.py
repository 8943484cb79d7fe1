"""Which suites there are on this machine, found once and remembered until a file or folder changes.

Looking for suites means listing folders, parsing every ``suite.yaml`` and asking for the weights of every published
suite. :class:`Watched` does such a thing once and notes everything that it looked at; after that, asking again costs
one ``stat`` for each of those.
"""

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from merging.core.errors import MergingError
from merging.hub.cache import HubFile, cache_folder, repository, snapshot
from merging.suites.images.kinds import HuggingFaceData
from merging.suites.suite import (
    DEFAULT,
    Suite,
    builtin_suites,
    downloaded_suites,
    is_embedded,
    load_suite,
    reading_order,
    suite_file,
)

# Of two changes in one tick of a file system's clock the second leaves the time as it is. What changed so recently, in
# seconds, is looked at again instead of being trusted; the coarsest clocks (FAT) tick every two seconds.
_TICK = 2.0
_BUILT_HERE = Path(__file__).parent / DEFAULT  # changes when the default suite is built
_FOLDERS_DEEP = 2  # a suite.yaml may lie so far below a root: deeper would mean walking through image folders

Value = TypeVar("Value")
Seen = set[str | Path]
State = tuple[int, int, int] | None


def state_of(path: str | Path) -> State:
    """Time of the last change, size and number of a file or folder; None if there is none that can be reached."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


@dataclass
class Watched(Generic[Value]):
    """A value that depends on files and folders, found anew only after one of them changed, came or went.

    A folder changes when something in it is added, renamed or removed, not when a file in it is written in place.

    Attributes:
        find: finds the value, and adds whatever it depends on to the set that it is given.
        clock: seconds since the epoch, as file systems count them.
    """

    find: Callable[[Seen], Value]
    clock: Callable[[], float] = time.time
    _value: Value | None = None
    _states: dict[str | Path, State] | None = None
    _lock: Lock = field(default_factory=Lock)

    def __call__(self) -> Value:
        """The value, as it is now.

        Raises:
            Exception: whatever ``find`` raises; then nothing is remembered.
        """
        with self._lock:
            if self._states is None or any(state_of(path) != known for path, known in self._states.items()):
                self._states = None
                seen: Seen = set()
                began = self.clock()
                self._value = self.find(seen)
                states = {path: state_of(path) for path in seen}
                if all(state is None or state[0] < (began - _TICK) * 1e9 for state in states.values()):
                    self._states = states
            return self._value  # type: ignore[return-value]  # found by now


@dataclass(frozen=True)
class SuiteEntry:
    """A suite to choose from.

    Attributes:
        reference: what ``load_suite`` and ``MergeSpec.suite`` take.
        label: what it is called on screen.
        problem: why it can't be used, if it can't.
    """

    reference: str
    label: str
    problem: str = ""


@dataclass(frozen=True)
class Found:
    """What a look around found.

    Attributes:
        entries: suites by the short name that stands in URLs, the embedded ones first: built-in ones, those below the
            roots, downloaded ones. Suites of published checkpoints only if one of their models is here.
        published: name → suite of published checkpoints, whether or not its files are here.
        described: reference → the suite as its ``suite.yaml`` describes it, of all of these that can be read.
    """

    entries: Mapping[str, SuiteEntry]
    published: Mapping[str, Suite]
    described: Mapping[str, Suite]


class Discovery:
    """The suites below some folders, built-in and downloaded; may be shared by threads.

    Args:
        roots: folders in which, or up to two folders below which, a ``suite.yaml`` makes a suite.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)
        self._found = Watched(self._look)
        self._parsed: dict[str, tuple[tuple[Path, State], Suite | MergingError]] = {}
        self._files: dict[str, tuple[Suite, Watched[list[Path]]]] = {}

    def __call__(self) -> Found:
        """What there is now."""
        return self._found()

    def files(self, reference: str, suite: Suite) -> list[Path]:
        """The ``suite.yaml`` of a suite and what it names: weights, heads, text tower, images; there or not.

        Args:
            reference: of the suite.
            suite: what was found under it. Images are a file each, or a folder.

        Raises:
            SuiteError: a path leads out of the suite's folder.
        """
        known = self._files.get(reference)
        if known is None or known[0] is not suite:
            known = self._files[reference] = (suite, Watched(lambda seen: _files_of(reference, suite, seen)))
        return known[1]()

    def _look(self, seen: Seen) -> Found:
        builtin = builtin_suites()
        embedded = [name for name in builtin if is_embedded(name)]
        seen |= {_BUILT_HERE, *(builtin[name] for name in embedded)}  # they change when suites are built
        read = {name: self._read(name, seen) for name in builtin if name not in embedded}
        published = {name: one for name, one in read.items() if isinstance(one, Suite)}
        here = {name for name, suite in published.items() if _any_model(suite, seen)}
        references = {name: name for name in builtin if name in embedded or name in here}
        references |= suites_below(self.roots, builtin, seen)
        references |= {hub: hub for hub in _downloaded(seen)}
        read |= {one: self._read(one, seen) for one in references.values() if one not in read}
        entries = {
            slug: SuiteEntry(reference, one.label)
            if isinstance(one := read[reference], Suite)
            else SuiteEntry(reference, slug, str(one))
            for slug, reference in references.items()
        }
        described = {reference: one for reference, one in read.items() if isinstance(one, Suite)}
        ordered = dict(sorted(entries.items(), key=lambda item: reading_order(item[0])))
        self._parsed = {reference: one for reference, one in self._parsed.items() if reference in read}
        self._files = {reference: one for reference, one in self._files.items() if reference in described}
        return Found(ordered, published, described)

    def _read(self, reference: str, seen: Seen) -> Suite | MergingError:
        """A suite, or why it can't be read; parsed anew only if its file has changed."""
        path = suite_file(reference)
        seen.add(path)
        status = state_of(path)
        version = path, status  # of the hub's snapshots several lead to one file
        known = self._parsed.get(reference)
        settled = status is not None and status[0] < (time.time() - _TICK) * 1e9
        if known is None or known[0] != version or not settled:
            try:
                known = version, load_suite(reference)
            except MergingError as error:
                known = version, error
            self._parsed[reference] = known
        return known[1]


def suites_below(roots: Sequence[Path], taken: Collection[str], seen: Seen | None = None) -> dict[str, str]:
    """Short name → reference of every suite in some folders, or up to two folders below them.

    Args:
        roots: the folders.
        taken: names that other suites have.
        seen: gets all that was looked at.
    """
    found: dict[str, str] = {}
    for root in roots:
        for path in _suite_files(root, set() if seen is None else seen):
            name, number = path.parent.name, 2
            while name in found or name in taken:
                name, number = f"{path.parent.name}-{number}", number + 1
            found[name] = str(path)
    return found


def _suite_files(root: Path, seen: Seen) -> list[Path]:
    """Every ``suite.yaml`` in a folder and up to two folders below it, sorted."""
    found, level = [], [root]
    for depth in range(_FOLDERS_DEEP + 1):
        seen |= set(level)
        found += [path for folder in level if state_of(path := folder / "suite.yaml") is not None]
        level = [path for folder in level for path in _folders_in(folder)] if depth < _FOLDERS_DEEP else []
    return sorted(found)


def _folders_in(folder: Path) -> list[Path]:
    with suppress(OSError), os.scandir(folder) as entries:
        return [folder / entry.name for entry in entries if entry.is_dir()]
    return []


def _downloaded(seen: Seen) -> list[str]:
    """Ids of the suites that were downloaded from the Hugging Face hub."""
    folder = cache_folder()
    seen.add(folder)
    for repository_folder in folder.glob("models--*--*"):
        seen |= {repository_folder / "snapshots", repository_folder / "refs", repository_folder / "refs" / "main"}
        hub = "/".join(repository_folder.name.split("--", 2)[1:])
        seen.add(snapshot(hub, "model"))
    return list(downloaded_suites())


def _any_model(suite: Suite, seen: Seen) -> bool:
    """Whether any fine-tuned model of a suite is here."""
    for task in suite.tasks:
        if isinstance(task.checkpoint, HubFile):
            seen |= _places(task.checkpoint)
        elif task.checkpoint is not None:
            seen.add(suite.path(task.checkpoint))
    return bool(suite.mergeable())


def _places(file: HubFile) -> Seen:
    """What decides where a file of the hub is in its cache, and whether it is there."""
    folder = repository(file.hub, "model")
    if not folder.is_dir():
        return {cache_folder()}
    current = snapshot(file.hub, "model", file.revision)
    return {folder, folder / "refs" / file.revision, current, *(current / name for name in file.candidates)}


def _files_of(reference: str, suite: Suite, seen: Seen) -> list[Path]:
    """All files that a suite names; where those of the hub are depends on what is in its cache."""
    named = [suite.base, suite.text_tower]
    for task in suite.tasks:
        named += [task.checkpoint, task.head]
        if isinstance(task.data, HuggingFaceData) and task.data.dataset is not None:
            folder = repository(task.data.dataset, "dataset")
            revision = task.data.revision
            seen |= {cache_folder(), folder, folder / "refs" / revision}
            seen.add(snapshot(task.data.dataset, "dataset", revision))
    for one in named:
        if isinstance(one, HubFile):
            seen |= _places(one)
    images = filter(None, (suite.images_path(task.name) for task in suite.tasks))
    weights = [file for one in named if one is not None for file in suite.weight_files(one)]
    return [suite_file(reference), *weights, *images]
