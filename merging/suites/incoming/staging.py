"""A folder of the workspace in which files wait that somebody hands in, until they are a suite or are thrown away.

``incoming/TOKEN/files`` holds what is there; a file appears in it once all of it was written, and ``suites/NAME`` once
the whole suite is. Whoever ends the process in between loses what was being written and nothing else; what nobody asks
for during a day is removed when the next one begins.
"""

import os
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from merging.core.errors import MergingError, SuiteError
from merging.core.files import scratch_folder
from merging.suites.folder import SPLITS, is_generic
from merging.suites.incoming.arrival import Received, Upload, copy, files_below, room, settle
from merging.suites.incoming.linking import mirror
from merging.suites.incoming.names import SUITE, is_taken, is_weights, safe_path
from merging.suites.incoming.unpacking import unpack
from merging.weights.files.adapter_bases import CONFIG
from merging.weights.files.folders import in_shards

SUITES, _INCOMING = "suites", "incoming"  # folders of the workspace
_KEPT_SECONDS = 24 * 3600  # since anything came
_NAME = re.compile(r"[^\W_][\w .()+-]{0,79}")


@dataclass(frozen=True)
class Staging:
    """Files that wait in a workspace.

    Attributes:
        home: the workspace's folder.
        token: what tells these files from those of others; nobody can guess it.
    """

    home: Path
    token: str

    @classmethod
    def begun(cls, home: Path, now: float | None = None) -> "Staging":
        """An empty one; what others left behind more than a day ago is removed.

        Raises:
            SuiteError: the folder can't be made.
        """
        remove_stale(home, time.time() if now is None else now)
        staging = cls(home, secrets.token_hex(16))
        try:
            staging.files.mkdir(parents=True)
        except OSError as error:
            raise SuiteError(f"files can't be received where runs and caches lie ({error.strerror})") from None
        return staging

    @classmethod
    def found(cls, home: Path, token: str) -> "Staging | None":
        """The one with this token; None if there is none, or no more."""
        staging = cls(home, token)
        return staging if re.fullmatch("[0-9a-f]{32}", token) and staging.files.is_dir() else None

    @property
    def place(self) -> Path:
        """Its folder."""
        return self.home / _INCOMING / self.token

    @property
    def files(self) -> Path:
        """The folder of the files, which becomes the suite's."""
        return self.place / "files"

    @property
    def converted(self) -> Path:
        """The folder for what is made of pickled models."""
        return self.place / "converted"

    @property
    def is_described(self) -> bool:
        """Whether a ``suite.yaml`` was among what was handed in."""
        return (self.place / "described").exists()

    @property
    def called(self) -> str:
        """What the folder or archive was called that held all of it; empty if there was none."""
        with suppress(OSError, ValueError):
            return (self.place / "called").read_text(encoding="utf-8")
        return ""

    def receive(self, uploads: Sequence[Upload]) -> Received:
        """Take files in, copied in pieces; archives are unpacked. A file that is refused does not stop the others."""
        found = Received()
        often = Counter(upload.name for upload in uploads)
        whole = any(PurePosixPath(upload.name.replace("\\", "/")).name == SUITE for upload in uploads)
        with self.arriving(found) as batch:
            for upload in uploads:
                if often[upload.name] > 1:
                    found.refused[upload.name] = (
                        f"{often[upload.name]} files are called so, and it can't be told which belong together; drop "
                        "their folders, or one after the other"
                    )
                    continue
                try:
                    self._take(upload, batch, found, whole)
                except MergingError as error:
                    found.refused[upload.name] = str(error)
                except OSError as error:
                    found.refused[upload.name] = f"can't be written ({error.strerror}); make room"
        return found

    def link(self, path: Path, name: str = "") -> Received:
        """Take in a file or folder of this machine without copying it: links lead to where the files lie.

        Args:
            path: of a weight file, or of a folder as :func:`merging.suites.folder.look` reads it.
            name: what to call its folder here; as it is called there if not given.

        Raises:
            SuiteError: there is no such thing, it holds too much, or nothing of use.
        """
        found = Received()
        with self.arriving(found) as batch:
            found.remarks += mirror(path, batch, name)
        return found

    def listing(self) -> dict[str, int]:
        """Every file, or linked folder, with its size in bytes; sorted."""
        return {path.as_posix(): _size(self.files / path) for path in sorted(files_below(self.files))}

    def unnamed(self) -> list[str]:
        """Weight files whose names say no task and that lie in no folder which says it."""
        return [path.as_posix() for path in files_below(self.files) if is_weights(path) and is_generic(Path(path))]

    def call(self, name: str) -> None:
        """Put the files that :meth:`unnamed` lists, and all that lies beside them loosely, into a folder of a name.

        Raises:
            SuiteError: that can't be the name of a folder, or there is one already.
        """
        self._require_name(name)
        if (self.files / name).exists() or name in SPLITS:
            raise SuiteError(f"there is a folder {name} among these files already; choose another name")
        loose = [path for path in files_below(self.files) if len(path.parts) == 1]
        named = [path for path in loose if is_weights(path) and not is_generic(Path(path))]
        theirs = {path for path in loose if path.name == CONFIG or in_shards(Path(path)) or is_weights(path)}
        moved = [path for path in loose if path not in named and path.name != SUITE and (not named or path in theirs)]
        (self.files / name).mkdir()
        for path in moved:
            os.rename(self.files / path, self.files / name / path.name)

    def remove(self, files: Sequence[str]) -> None:
        """Throw some files away, those that are still where they were put."""
        for path in {PurePosixPath(file) for file in files} & set(files_below(self.files)):
            (self.files / path).unlink()

    def forget_description(self) -> None:
        """Throw the ``suite.yaml`` away that was among what was handed in, so that the other files are looked at."""
        (self.files / SUITE).unlink(missing_ok=True)
        (self.place / "described").unlink(missing_ok=True)

    def exchange(self, file: str, converted: str) -> None:
        """Take what a file was converted to, a path in :attr:`converted`, in its place, if both are there."""
        made, target = self.converted / converted, (self.files / file).with_suffix(Path(converted).suffix)
        if PurePosixPath(file) in set(files_below(self.files)) and made.is_file() and not target.exists():
            os.rename(made, target)
            (self.files / file).unlink()

    def discard(self) -> None:
        """Throw everything away; files that links lead to stay."""
        shutil.rmtree(self.place, ignore_errors=True)

    def destination(self, name: str) -> Path:
        """Where a suite of this name is to lie.

        Raises:
            SuiteError: that can't be its name, or there is one of that name.
        """
        self._require_name(name)
        place = self.home / SUITES / name
        if place.exists():
            raise SuiteError(f"there is a suite {name} among those that were added; choose another name")
        return place

    def finish(self, name: str) -> Path:
        """Let the files, with the ``suite.yaml`` that describes them, be a suite of the workspace: in one step.

        Returns:
            The ``suite.yaml``.

        Raises:
            SuiteError: as :meth:`destination`, or it can't be put there.
        """
        place = self.destination(name)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            os.rename(self.files, place)
        except OSError as error:
            raise SuiteError(f"suite {name} can't be added ({error.strerror}); nothing was changed") from None
        self.discard()
        return place / SUITE

    def _require_name(self, name: str) -> None:
        if not _NAME.fullmatch(name) or name.endswith((" ", ".")):
            raise SuiteError(
                f"{name[:80]!r} can't be a name here; expected up to 80 letters, digits, blanks and . - + ( ), a "
                "letter or digit first"
            )

    @contextmanager
    def arriving(self, found: Received) -> Iterator[Path]:
        """A folder for what comes in at once: at the end it goes into its place, or is gone if there was an error.

        Raises:
            SuiteError: these files were thrown away meanwhile.
        """
        with self._folder() as batch:
            yield batch
            self._settle(batch, found)

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        with ExitStack() as until_the_end:
            try:
                folder = until_the_end.enter_context(scratch_folder(self.place))
            except OSError as error:
                raise SuiteError(f"these files are not there any more ({error.strerror}); begin again") from None
            os.utime(self.place)
            yield folder

    def _settle(self, batch: Path, found: Received) -> None:
        own = self.files / SUITE
        if not self.is_described:
            own.unlink(missing_ok=True)  # of a suite that was not added to the end
        name = settle(batch, self.files, found)
        if name and not self.called:
            (self.place / "called").write_text(name, encoding="utf-8")
        if own.exists():
            (self.place / "described").touch()

    def _take(self, upload: Upload, batch: Path, found: Received, whole: bool) -> None:
        path = safe_path(upload.name)
        if path.suffix.lower() == ".zip":
            with self._folder() as around:  # gone with all that was unpacked if something is wrong with it
                packed, inside = around / "packed", around / "inside"
                copy(upload, packed, room(around))
                unpacked = Received(left_out=unpack(packed, path.name, inside, room(around), copy))
                self._settle(inside, unpacked)
            found.add(path.as_posix(), unpacked)
        elif is_taken(path, whole):
            (batch / path).parent.mkdir(parents=True, exist_ok=True)
            copy(upload, batch / path, room(batch))
        else:
            found.left_out.append(path.as_posix())


def remove_stale(home: Path, now: float) -> None:
    """Throw away what nobody has added anything to for a day."""
    with suppress(OSError), os.scandir(home / _INCOMING) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < now - _KEPT_SECONDS:
                    shutil.rmtree(entry.path, ignore_errors=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a link to what is gone
        return 0
