"""Whether anything in a folder of images has changed, found out without walking it on every rerun of a page.

Replacing an image in place changes no folder's time, so every file has to be asked. Reruns come many times a second
while a slider moves and folders hold tens of thousands of images, so an answer is kept for a while.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_PAUSE = 3.0  # seconds for which an answer is kept at least
_SHARE = 20  # and so many times longer than walking through all folders took: walks take a twentieth of the time
_DEPTH = 3  # split/class/image; deeper files are no images of the suite, and links can't lead in circles


@dataclass(frozen=True)
class _Look:
    when: float
    took: float
    stamp: tuple[int, int]


@dataclass
class FolderWatch:
    """Stamps of folders, shared by all sessions.

    Attributes:
        clock: seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _looks: dict[Path, _Look] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def stamp(self, folder: Path) -> tuple[int, int]:
        """Number of files and a hash of their names, sizes and times; at most some seconds old.

        The hash means something in this process only.
        """
        with self._lock:
            known, now = self._looks.get(folder), self.clock()
            pause = max(_PAUSE, _SHARE * sum(look.took for look in self._looks.values()))
            if known is None or now - known.when >= pause:
                files = frozenset(_files(folder, _DEPTH))
                done = self.clock()
                known = self._looks[folder] = _Look(done, done - now, (len(files), hash(files)))
            return known.stamp


def _files(folder: Path | str, depth: int) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of every file; what vanishes meanwhile or can't be read is left out."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if not entry.is_dir():
                    status = entry.stat()
                    yield entry.path, status.st_size, status.st_mtime_ns
                elif depth > 1:
                    yield from _files(entry.path, depth - 1)
