"""Downloading single files of the Hugging Face hub into its cache.

What the hub says of a file (its commit, size and digest) is asked through huggingface_hub. The bytes are fetched here,
because a download must be cancelled, resumed and compared with its digest before it counts as present: until then it is
named ``.incomplete`` in the cache, where nothing looks for it.
"""

import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from merging.core.errors import Cancelled, HubError
from merging.core.files import atomic_path
from merging.hub.cache import Kind, cache_folder, is_inside, repository

_CHUNK = 2**20
_SECONDS = 30  # without a byte, after which a connection counts as broken
_ATTEMPTS = 5  # at going on where a connection broke, since the last byte
_PAUSE = 1.0  # seconds before the second of them, then twice as long each time
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Remote:
    """A file of the hub as it is there now.

    Attributes:
        hub: the repository, ``owner/name``.
        kind: of the repository.
        file: path in it.
        revision: the branch, tag or commit that was asked for.
        commit: what that is at present.
        digest: SHA-256 of the content, or, for small files, the SHA-1 that git gives it.
        size: in bytes.
        url: where the bytes are.
    """

    hub: str
    kind: Kind
    file: str
    revision: str
    commit: str
    digest: str
    size: int
    url: str

    @property
    def path(self) -> Path:
        """Where the file is in the cache once it is there."""
        return repository(self.hub, self.kind) / "snapshots" / self.commit / self.file


def look_up(hub: str, files: Sequence[str], revision: str = "main", kind: Kind = "model") -> Remote:
    """Ask the hub for the first of several files that a repository has.

    Raises:
        HubError: there is no network, repository, revision or file, or access is refused.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    for file in files:
        url = hf_hub_url(hub, file, repo_type=kind, revision=revision)
        try:
            with hub_errors_explained(hub, kind, revision):
                found = get_hf_file_metadata(url)
        except EntryNotFoundError:
            continue
        digest, size, commit = (found.etag or "").lower(), found.size, found.commit_hash or ""
        if len(digest) not in (40, 64) or not _HEX.issuperset(digest) or size is None or not _HEX.issuperset(commit):
            raise HubError(f"{hub}: the hub's answer on {file} lacks a commit, size or digest; nothing was downloaded")
        return Remote(hub, kind, file, revision, commit, digest, size, found.location)
    raise HubError(f"{hub}: no {' or '.join(files)} in revision {revision!r} on the Hugging Face hub")


def list_files(hub: str, revision: str = "main", kind: Kind = "dataset") -> list[str]:
    """Paths of all files of a repository; raises as :func:`look_up`."""
    from huggingface_hub import HfApi, constants

    with hub_errors_explained(hub, kind, revision):
        api = HfApi(endpoint=constants.ENDPOINT)
        ask = api.dataset_info if kind == "dataset" else api.model_info
        found = ask(hub, revision=revision, timeout=_SECONDS)
    return sorted(each.rfilename for each in found.siblings or () if is_inside(each.rfilename))


@contextmanager
def hub_errors_explained(hub: str, kind: Kind, revision: str) -> Iterator[None]:
    """Turns what huggingface_hub raises into our own errors, but for a file that a repository lacks."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise HubError(
            f"{hub}: the hub wants an account that has accepted the terms of this {kind}; set HF_TOKEN, or: "
            "hf auth login"
        ) from None
    except errors.RepositoryNotFoundError:
        raise HubError(f"{hub}: no such {kind} on the Hugging Face hub, or a private one (set HF_TOKEN)") from None
    except errors.RevisionNotFoundError:
        raise HubError(f"{hub}: the {kind} has no revision {revision!r} on the Hugging Face hub") from None
    except errors.EntryNotFoundError:
        raise
    except errors.OfflineModeIsEnabled:
        raise HubError(f"{hub}: the hub is not asked, as HF_HUB_OFFLINE is set") from None
    except errors.HfHubHTTPError as error:
        raise HubError(f"{hub}: the hub answered {error.response.status_code}; try again later") from None
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # of the client that it uses
        raise HubError(f"{hub}: the Hugging Face hub can't be reached ({trouble(error)})") from None


def trouble(error: BaseException) -> str:
    """What the client that huggingface_hub uses says of a connection, without the names of its classes.

    >>> trouble(OSError("[Errno -2] Name or service not known"))
    'Name or service not known'
    """
    said = re.sub(r"^\[[^\]]*\] *", "", str(error).strip())
    return said.split("\n")[0][:120] or "no answer"


def require_room(bytes_wanted: int) -> None:
    """Find out before a download whether it fits on the disk.

    Raises:
        HubError: it does not.
    """
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if bytes_wanted > free:
        raise HubError(
            f"{bytes_wanted / 1e9:.1f} GB are to be downloaded, {free / 1e9:.1f} GB are free where the Hugging Face "
            "cache is; HF_HOME moves it"
        )


def fetch(remote: Remote, on_bytes: Callable[[int], None], cancelled: Callable[[], bool]) -> Path:
    """Download a file unless it is in the cache, and give its path there.

    Args:
        remote: which file.
        on_bytes: told how many bytes of it there are.
        cancelled: asked between pieces of a mebibyte.

    Raises:
        HubError: the transfer broke off for good, or the content is not what the hub promised; what was fetched is
            kept in the first case, for the next try to go on from, and removed in the second.
        Cancelled: somebody asked for the work to stop; what was fetched is kept.
    """
    blob = repository(remote.hub, remote.kind) / "blobs" / remote.digest
    try:
        blob.parent.mkdir(parents=True, exist_ok=True)
        if not blob.exists() or blob.stat().st_size != remote.size:
            _fetch(remote, blob, on_bytes, cancelled)
        on_bytes(remote.size)
        _link(remote, blob)
    except OSError as error:
        reason = error.strerror or "the disk refused it"
        raise HubError(f"{remote.hub}: {remote.file} can't be written to the Hugging Face cache ({reason})") from None
    return remote.path


def _fetch(remote: Remote, blob: Path, on_bytes: Callable[[int], None], cancelled: Callable[[], bool]) -> None:
    partial = blob.with_name(f"{blob.name}.incomplete")
    with _alone(remote, blob):
        with partial.open("a+b") as file:
            if file.tell() > remote.size:
                file.truncate(0)
            _receive(remote, file, on_bytes, cancelled)
            file.flush()
            os.fsync(file.fileno())
            found = _digest(file, remote)
        if found != remote.digest:  # some systems neither remove nor rename a file that is open
            partial.unlink()
            raise HubError(
                f"{remote.hub}: {remote.file} has the digest {found[:12]}…, the hub says {remote.digest[:12]}…; what "
                "was downloaded is removed; try again"
            )
        os.replace(partial, blob)


@contextmanager
def _alone(remote: Remote, blob: Path) -> Iterator[None]:
    """Hold the lock that the hub's own library takes for a file, too."""
    folder = blob.parent.parent
    place = folder.parent / ".locks" / folder.name / f"{blob.name}.lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise HubError(f"{remote.hub}: {remote.file} is being downloaded already; wait for that to end") from None
    try:
        yield
    finally:
        lock.release()


def _receive(
    remote: Remote, file: BufferedRandom, on_bytes: Callable[[int], None], cancelled: Callable[[], bool]
) -> None:
    """Append what is missing, going on where a connection breaks."""
    failures = 0
    while (start := file.seek(0, os.SEEK_END)) < remote.size:
        try:
            with _opened(remote, start) as response:
                if start and response.status != 206:
                    file.truncate(0)  # the server sends everything again
                while piece := response.read(_CHUNK):
                    file.write(piece)
                    on_bytes(file.tell())
                    if cancelled():
                        raise Cancelled("the download was cancelled; the next one goes on where it stopped")
        except urllib.error.HTTPError as error:
            raise HubError(f"{remote.hub}: the hub answered {error.code} for {remote.file}; try again later") from None
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError):
            pass  # what came is kept, and the rest asked for again
        end = file.seek(0, os.SEEK_END)
        if end > remote.size:
            file.truncate(0)
            raise HubError(f"{remote.hub}: {remote.file} is longer than the hub says ({remote.size} bytes); try again")
        failures = 0 if end > start else failures + 1
        if failures >= _ATTEMPTS:
            raise HubError(
                f"{remote.hub}: the transfer of {remote.file} broke off after {end} of {remote.size} bytes; the next "
                "download goes on from there"
            )
        if failures:
            time.sleep(_PAUSE * 2 ** (failures - 1))


def _opened(remote: Remote, start: int) -> Any:
    """An answer with the bytes from ``start`` on. Only the hub itself is told who asks, not where it redirects to."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    headers = {"Accept-Encoding": "identity"}
    if urlsplit(remote.url).netloc == urlsplit(constants.ENDPOINT).netloc:
        headers |= build_hf_headers()
    if start:
        headers["Range"] = f"bytes={start}-"
    return urllib.request.urlopen(urllib.request.Request(remote.url, headers=headers), timeout=_SECONDS)


def _digest(file: BufferedRandom, remote: Remote) -> str:
    """The digest of a file in the hub's way: SHA-256, or git's, which is of small files."""
    file.seek(0)
    if len(remote.digest) == 64:
        return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha1(b"blob %d\0" % remote.size + file.read(), usedforsecurity=False).hexdigest()


def _link(remote: Remote, blob: Path) -> None:
    """Make a complete file known under its name: what it is called in its commit, and which commit is the newest."""
    path = remote.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with atomic_path(path) as temporary:
            temporary.symlink_to(os.path.relpath(blob, path.parent))
    if remote.revision != remote.commit:
        with atomic_path(repository(remote.hub, remote.kind) / "refs" / remote.revision) as temporary:
            temporary.write_text(remote.commit, encoding="utf-8")
