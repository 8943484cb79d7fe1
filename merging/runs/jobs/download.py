"""A job: getting what a suite names from the Hugging Face hub: models, text towers, heads, images. Only when asked."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from merging.core.errors import Cancelled, HubError, SuiteError
from merging.core.files import MODEL_FILES
from merging.core.limits import MAX_INDEX_BYTES, MAX_SUITE_BYTES
from merging.core.progress import Progress, no_progress
from merging.evaluation.clip import count_weights
from merging.hub.cache import INDEXES, HubFile, cache_folder, in_cache, snapshot
from merging.hub.transfer import Remote, fetch, list_files, look_up, require_room
from merging.runs.jobs.file_job import FileJob
from merging.runs.jobs.job import JobResult, Site
from merging.suites.declared import CONFIGURATIONS
from merging.suites.images.hub import files_wanted, is_whole
from merging.suites.images.kinds import ArraysData, HuggingFaceData
from merging.suites.suite import (
    FileReference,
    Suite,
    Task,
    builtin_suites,
    is_name,
    load_suite,
)
from merging.weights.files.adapter_bases import CONFIG
from merging.weights.files.adapters import FILES, files_of, is_adapter
from merging.weights.files.folders import INDEX, is_complete, is_index, named_shards, weight_suffix

_MEGABYTE = 10**6
_BYTES = 4  # of a weight: published models are float32


@dataclass(frozen=True)
class Missing:
    """Something that a suite names and that is not on this machine.

    Attributes:
        what: what it is called in ``suite.yaml``.
        place: where it belongs: a path below the hub's cache, or below the suite's folder.
        on_hub: whether the hub has it.
    """

    what: str
    place: str
    on_hub: bool


class DownloadedFile(BaseModel):
    """A file that was fetched: its address on the hub, its place below the cache, bytes, and digest."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    file: str
    place: str
    bytes: int
    digest: str


class DownloadReport(JobResult):
    """What was fetched, how many bytes in all, and what no download brings."""

    suite: str = ""
    files: list[DownloadedFile] = Field(default_factory=list)
    bytes: int = 0
    missing: list[Missing] = Field(default_factory=list)


class DownloadJob(FileJob):
    """What :func:`download` takes; no tasks are the usual ones."""

    result: ClassVar[type[DownloadReport]] = DownloadReport
    without: ClassVar[str] = "Files that were finished are kept; asked again, it goes on where it stopped."
    anew: ClassVar[bool] = True
    job: Literal["download"] = "download"
    suite: str
    tasks: tuple[str, ...] = ()
    data: bool = False

    @property
    def label(self) -> str:
        """What to call it on screen."""
        return f"Download of {self.suite}"

    def run(self, site: Site) -> DownloadReport:
        """Fetch what is missing; the digest of a large file is its fingerprint, so that it need not be read again."""
        found = download(self.suite, self.tasks or None, self.data, site.on_progress, site.cancelled)
        for row in found.files:
            if len(row.digest) == 64:
                site.workspace.store.remember_fingerprint(cache_folder() / row.place, row.digest)
        return found.model_copy(update={"label": self.label})


def missing_parts(suite: Suite, tasks: Sequence[str] | None = None, data: bool = True) -> list[Missing]:
    """What is not here of the files, and with ``data`` of the images, that some tasks need (the usual by default)."""
    files = [
        Missing(str(each), in_cache(suite.path(each)) if isinstance(each, HubFile) else each, isinstance(each, HubFile))
        for each in _files(suite, tasks)
        if not _is_file_here(suite, each)
    ]
    return files + [_missing_images(suite, task) for task in _without_images(suite, tasks if data else ())]


def estimated_bytes(suite: Suite, missing: Sequence[Missing]) -> int:
    """About how many bytes the missing weights of the hub are; nobody is asked.

    Taken are the architecture's weights at four bytes each: of the visual tower for a model, of the whole of CLIP for
    the file that holds its text tower. Heads, and files called like adapters, are small, and not counted; nor are
    images, of which nothing is known.

    Raises:
        SuiteError: open_clip can't build the architecture.
    """
    named = [suite.base, *(task.checkpoint for task in suite.tasks)]
    models = {str(name) for name in named if name is not None and not is_adapter(Path(str(name)))}
    tower, whole = count_weights(suite)
    wanted = [part.what for part in missing if part.on_hub]
    return sum(
        _BYTES * (whole if what == str(suite.text_tower) else tower)
        for what in wanted
        if what in models or what == str(suite.text_tower)
    )


def download(
    reference: str,
    tasks: Sequence[str] | None = None,
    data: bool = False,
    on_progress: Progress = no_progress,
    cancelled: Callable[[], bool] = lambda: False,
) -> DownloadReport:
    """Download what is missing of a suite, and compare every file with the digest that the hub gives.

    A download that broke off or was cancelled goes on where it stopped.

    Args:
        reference: a suite as :func:`merging.suites.load_suite` takes it, or a model repository of the hub,
            ``owner/name``, that holds a ``suite.yaml``.
        tasks: which, as :meth:`merging.suites.Suite.chosen` takes them; the usual ones by default.
        data: get images of the hub too.
        on_progress: called with megabytes done and in all.
        cancelled: asked between pieces.

    Raises:
        HubError: something can't be downloaded; where nothing could be, the message says where all files belong.
        SuiteError: there is no such suite.
        Cancelled: somebody asked for the work to stop.
    """
    from_hub = is_name(reference) and reference not in builtin_suites()
    suite = _fetched_suite(reference, cancelled) if from_hub else load_suite(reference)
    tasks = None if tasks is None else suite.chosen(tasks)
    try:
        wanted = list(_looked_up(suite, tasks, data, reference if from_hub else None, on_progress, cancelled))
    except HubError as error:
        places = ", ".join(each.place for each in missing_parts(suite, tasks, data))
        raise HubError(
            f"{error}; without it, files can be put by hand below the cache or the suite: {places}"
        ) from None
    fetch_all(wanted, on_progress, cancelled)
    return DownloadReport(
        suite=suite.name,
        files=[downloaded_file(remote) for remote in wanted],
        bytes=sum(remote.size for remote in wanted),
        missing=missing_parts(suite, tasks, data),
    )


def downloaded_file(remote: Remote) -> DownloadedFile:
    """What to say of a file that was fetched."""
    return DownloadedFile(
        file=f"{remote.hub}/{remote.file}", place=in_cache(remote.path), bytes=remote.size, digest=remote.digest
    )


def _fetched_suite(hub: str, cancelled: Callable[[], bool]) -> Suite:
    """The suite that a repository describes, as it is there now."""
    found = look_up(hub, ["suite.yaml"])
    if found.size > MAX_SUITE_BYTES:
        raise SuiteError(f"{hub}: its suite.yaml has {found.size} bytes; at most {MAX_SUITE_BYTES} are read")
    return load_suite(fetch(found, lambda _: None, cancelled))


def _looked_up(
    suite: Suite,
    tasks: Sequence[str] | None,
    data: bool,
    own: str | None,
    on_progress: Progress,
    cancelled: Callable[[], bool],
) -> Iterator[Remote]:
    """What the hub says of everything that is missing. Paths in a suite of the hub are files of its repository."""
    files = [each for each in _files(suite, tasks) if not _is_file_here(suite, each)]
    files = [each for each in files if isinstance(each, HubFile) or own is not None]
    sets = [task.data for task in _without_images(suite, tasks if data else ())]
    models = {suite.base, *(task.checkpoint for task in suite.tasks)}
    places: dict[tuple[str, str], set[PurePosixPath]] = {}
    for done, each in enumerate(files):
        _step(on_progress, cancelled, done, len(files) + len(sets), f"asking the hub for {each}")
        if isinstance(each, HubFile):
            found = look_up(each.hub, each.candidates, each.revision)
            if each.sha256 not in (None, found.digest) and len(found.digest) == len(each.sha256 or ""):
                raise HubError(
                    f"{each}: the hub's file has the SHA-256 {found.digest[:12]}…, suite.yaml wants {each.sha256}; "
                    "nothing was downloaded"
                )
        else:
            assert own is not None  # else only files of the hub are looked for
            found = look_up(own, _may_be(each), suite.folder.name)
        yield from with_companions(found, cancelled)
        if each in models:
            places.setdefault((found.hub, found.commit), set()).add(PurePosixPath(found.file).parent)
    yield from configurations(places)
    for done, images in enumerate(sets, len(files)):
        assert images is not None
        _step(on_progress, cancelled, done, len(files) + len(sets), f"asking the hub for {images.title}")
        if isinstance(images, HuggingFaceData) and images.dataset is not None:
            names = files_wanted(list_files(images.dataset, images.revision), images.config, images.test)
            if not names:
                raise HubError(f"{images.dataset}: no parquet files of a train, validation or test split on the hub")
            for name in names:
                _step(on_progress, cancelled, done, len(files) + len(sets), f"asking the hub for {name}")
                yield look_up(images.dataset, [name], images.revision, kind="dataset")
        elif own is not None and isinstance(images, ArraysData):
            yield look_up(own, [images.path], suite.folder.name)


def with_companions(found: Remote, cancelled: Callable[[], bool]) -> Iterator[Remote]:
    """A weight file with what it can't be read without: the shards of an index, an adapter's configuration."""
    yield found
    if is_adapter(Path(found.file)):
        yield look_up(found.hub, [_beside(found, CONFIG)], found.commit)
    if is_index(Path(found.file)):
        if found.size > MAX_INDEX_BYTES:
            raise HubError(f"{found.hub}: {found.file} has {found.size} bytes; at most {MAX_INDEX_BYTES} are read")
        for shard in named_shards(fetch(found, lambda _: None, cancelled)):
            yield look_up(found.hub, [_beside(found, shard)], found.commit)


def configurations(places: Mapping[tuple[str, str], Collection[PurePosixPath]]) -> Iterator[Remote]:
    """What lies beside models and says of them what no tensor shows, each file once.

    Args:
        places: repository and commit → folders with models.
    """
    for (hub, commit), folders in places.items():
        there = list_files(hub, commit, "model")
        wanted = {(folder / name).as_posix() for folder in folders for name in CONFIGURATIONS}
        yield from (look_up(hub, [name], commit) for name in there if name in wanted)


def _is_file_here(suite: Suite, reference: FileReference) -> bool:
    """Whether a weight file is here, and what it can't be read without."""
    path = suite.path(reference)
    return is_complete(path) and all(each.is_file() for each in files_of(path))


def _beside(found: Remote, name: str) -> str:
    """The path in its repository of a file beside another one."""
    return (PurePosixPath(found.file).parent / name).as_posix()


def _may_be(reference: str) -> list[str]:
    """Paths in a repository that a path in its ``suite.yaml`` may stand for: a file, or a folder with a model in it."""
    inside = [f"{reference.rstrip('/')}/{name}" for name in (*MODEL_FILES, *INDEXES, *FILES)]
    return [reference] if weight_suffix(reference) or reference.endswith(INDEX) else inside


def _step(on_progress: Progress, cancelled: Callable[[], bool], done: int, total: int, message: str) -> None:
    on_progress(done, total, message)
    if cancelled():
        raise Cancelled("the download was cancelled before it began")


def fetch_all(wanted: Sequence[Remote], on_progress: Progress, cancelled: Callable[[], bool]) -> None:
    """Fetch one file after the other, once it is sure that all of them fit on the disk; raises as :func:`fetch`."""
    total, before = sum(remote.size for remote in wanted), 0
    require_room(total)
    for number, remote in enumerate(wanted, 1):
        message = f"downloading {remote.hub.split('/')[-1]}, file {number} of {len(wanted)}, megabytes"

        def report(done: int, before: int = before, message: str = message) -> None:
            on_progress((before + done) // _MEGABYTE, max(total // _MEGABYTE, 1), message)

        fetch(remote, report, cancelled)
        before += remote.size


def _tasks(suite: Suite, names: Sequence[str] | None) -> list[Task]:
    return [suite.task(name) for name in (suite.usual_tasks if names is None else names)]


def _files(suite: Suite, tasks: Sequence[str] | None) -> list[FileReference]:
    """Every weight file that the tasks need, once."""
    chosen = _tasks(suite, tasks)
    text = [suite.text_tower] if any(task.head is None for task in chosen) else []
    named = [suite.base, *text, *(task.checkpoint for task in chosen), *(task.head for task in chosen)]
    return list(dict.fromkeys(each for each in named if each is not None))


def _without_images(suite: Suite, tasks: Sequence[str] | None) -> list[Task]:
    """Tasks whose images are named and not here, or not all of them; one for each data set."""
    missing = {task.data: task for task in _tasks(suite, tasks) if task.data is not None and not _is_here(suite, task)}
    return list(missing.values())


def _is_here(suite: Suite, task: Task) -> bool:
    folder = suite.images_path(task.name)
    if folder is None or not folder.exists():
        return False
    data = task.data
    return not (isinstance(data, HuggingFaceData) and data.dataset) or is_whole(folder, data.config, data.test)


def _missing_images(suite: Suite, task: Task) -> Missing:
    data = task.data
    if isinstance(data, HuggingFaceData) and data.dataset is not None:
        place = f"{in_cache(snapshot(data.dataset, 'dataset', data.revision))}/data/*.parquet"
        return Missing(f"images {data.title}", place, True)
    assert data is not None
    return Missing(f"images {data.title}", data.title, False)
