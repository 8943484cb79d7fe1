"""Carrying out jobs on the workers of a Dask cluster (``distributed``), with the results in the local store.

The workers must have this package, in the same version, and find suites under the same paths; they are asked before
anything is sent, and those that join later when they do. The scheduler needs Dask alone. Each worker keeps its caches
in its own scratch folder, and sends small weights back, see :data:`FETCHED_BYTES`. Dask itself gives the tasks of a
worker that is lost to another one; a run on a GPU asks for the resource ``GPU``, which workers offer by
``dask worker ADDRESS --nthreads 1 --resources GPU=1``.
"""

import json
import platform
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from merging.core.errors import MergingError, RunError, SpecError
from merging.core.files import atomic_path
from merging.core.places import METHODS_VARIABLE
from merging.core.progress import phase_of
from merging.core.version import __version__
from merging.methods import own, registry
from merging.runs.at_the_door import Sent, enter, unfit
from merging.runs.carrying import Ending, carry_out
from merging.runs.export.weights import KEPT_WEIGHTS
from merging.runs.jobs import Job, JobResult, Site, parse_job
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.jobs.model_job import ModelJob
from merging.runs.table import RunStore
from merging.runs.workspace import Workspace
from merging.suites.suite import load_suite

if TYPE_CHECKING:
    from distributed import Future

FETCHED_BYTES = 64 * 2**20  # weights up to this size come back with a result
_ANSWER_SECONDS = 10
_ASK_SECONDS = 1.0  # how often a run asks the scheduler whether it is to stop, and this machine who has joined
_TELL_SECONDS = 0.5  # how often a run tells how far it is, within a phase
_Came = tuple[dict[str, Any], bytes | None, dict[str, bytes]]
_DEVICES = {"cpu": "cpu", "cuda": "cuda:0", "cuda:0": "cuda:0"}
_INSTALL = (
    f"install version {__version__} in the environment that `dask worker` runs in: pip install '.[cluster]' in a "
    "checkout, or its wheel"
)


def device_there(device: str) -> str:
    """The device with its number, on whichever machine of a cluster.

    Raises:
        SpecError: it depends on the machine.
    """
    if device not in _DEVICES:
        raise SpecError(
            f"device {device!r}: the machines of a cluster need not be like this one; expected device: cpu or cuda"
        )
    return _DEVICES[device]


class _Sent(NamedTuple):
    """A job that is under way."""

    job: Job
    future: "Future[Any]"


class Cluster:
    """A connection to a Dask scheduler.

    Args:
        address: of the scheduler, such as ``tcp://10.0.0.1:8786``.
        store: where runs and their results go.
        device: where the runs compute, on the machine of a worker.

    Raises:
        RunError: ``distributed`` is not installed, nobody answers, a worker lacks the package or has another version,
            or no worker offers a GPU.
    """

    def __init__(self, address: str, store: RunStore, device: str) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise RunError(
                "a cluster needs the package distributed; pip install '.[cluster]' in a checkout, or pip install it"
            ) from None
        try:
            self._client: Any = Client(address, timeout=_ANSWER_SECONDS, set_as_default=False)
        except (OSError, ValueError, TimeoutError):
            raise RunError(
                f"no Dask scheduler answers at {address!r}; expected an address such as tcp://10.0.0.1:8786"
            ) from None
        self._store = store
        self._resources = {"GPU": 1} if device.startswith("cuda") else None
        self._sent: dict[str, _Sent] = {}
        self._suites: dict[str, set[str]] = {}  # that were asked for, with their tasks
        self._sources: dict[str, str] = {}  # of methods of one's own that were asked for
        self._asked: set[str] = set()  # addresses of workers
        self._left_out: dict[str, str] = {}  # workers that joined later and can't carry jobs out → why
        self._looked = 0.0
        self._told: dict[str, tuple[int, int, str]] = {}  # run → its progress, not yet written
        self._phases: dict[str, str] = {}
        try:
            self._require_workers()
        except BaseException:
            self._client.close()
            raise
        self._topic = f"merging-{self._client.id}"
        self._client.subscribe_topic(self._topic, self._hear)

    # --- who is there ----------------------------------------------------------------------------------------------

    def _require_workers(self) -> None:
        """Insist that the machines can do what they will be asked for, before anything is sent."""
        there = self._client.get_versions()["scheduler"]["packages"]["python"]
        if _other_python(there):
            raise RunError(
                f"the scheduler runs Python {there}, this machine {platform.python_version()}; start `dask scheduler` "
                "with the same minor version"
            )
        self._asked = set(self._client.nthreads())
        if trouble := self._unfit(self._asked):
            raise RunError(f"{_listed(trouble, len(self._asked))}; {_INSTALL}")
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        if self._resources and workers and not any(worker["resources"].get("GPU") for worker in workers):
            raise RunError(
                f"none of the {len(workers)} workers of the cluster offers a GPU; start them with --resources GPU=1, "
                "or choose device: cpu"
            )

    def _unfit(self, addresses: Iterable[str]) -> dict[str, str]:
        """Those of some workers that can't carry jobs out, with the reason; one that has gone meanwhile is none."""
        asked = set(addresses)
        if not asked:
            return {}
        versions = self._client.get_versions()["workers"]
        pythons = {name: row["packages"]["python"] for name, row in versions.items() if name in asked}
        other = {name: python for name, python in pythons.items() if _other_python(python)}
        trouble = {
            name: f"runs Python {python}, here it is {platform.python_version()}" for name, python in other.items()
        }
        return trouble | self._answers(Sent(unfit), __version__, workers=asked - set(other))

    def _answers(self, question: Any, *given: Any, workers: Iterable[str]) -> dict[str, str]:
        """What is wrong with some workers, by their own account."""
        chosen = sorted(workers)
        if not chosen:
            return {}
        answers = self._client.run(question, *given, workers=chosen, on_error="return")
        found = {
            name: answer if isinstance(answer, str) else repr(answer)
            for name, answer in answers.items()
            if not isinstance(answer, OSError)
        }
        return {name: answer for name, answer in found.items() if answer}

    def _require_suite(self, job: Job) -> None:
        """Insist that the workers have the suite of a job, and the models of its tasks."""
        if not isinstance(job, ModelJob) or set(job.tasks) <= self._suites.get(job.suite, set()):
            return
        fit = self._asked - set(self._left_out)
        trouble = self._answers(lacks_suite, job.suite, list(job.tasks), workers=fit)
        if trouble:
            raise RunError(
                f"{_listed(trouble, len(fit))}; every machine needs suite {job.suite_name!r}, under the "
                "same path or downloaded there"
            )
        self._suites.setdefault(job.suite, set()).update(job.tasks)

    def _require_methods(self, job: Job) -> None:
        """Insist that the workers have the very files of the methods of one's own that a job names."""
        sources = own.sources([part.stage for part in job.pair.parts]) if isinstance(job, ModelJob) else {}
        if sources.items() <= self._sources.items():
            return
        fit = self._asked - set(self._left_out)
        trouble = self._answers(lacks_methods, sources, workers=fit)
        if trouble:
            raise RunError(
                f"{_listed(trouble, len(fit))}; every machine needs the same file, and `dask worker` there "
                f"{METHODS_VARIABLE} that names it"
            )
        self._sources.update(sources)

    def _welcome(self) -> None:
        """Ask workers that have joined whether they can carry jobs out; jobs pass by those that can't."""
        if time.monotonic() - self._looked < _ASK_SECONDS:
            return
        self._looked = time.monotonic()
        there = set(self._client.nthreads())
        new, before = there - self._asked, dict(self._left_out)
        self._left_out = {name: why for name, why in self._left_out.items() if name in there}
        if new:
            self._left_out |= self._unfit(new)
            for suite, tasks in self._suites.items():
                fit = new - set(self._left_out)
                self._left_out |= self._answers(lacks_suite, suite, sorted(tasks), workers=fit)
            if self._sources:
                self._left_out |= self._answers(lacks_methods, self._sources, workers=new - set(self._left_out))
        self._asked = there
        if self._left_out != before:
            for run_id in self._sent:
                self._told.setdefault(run_id, (0, 0, "on the cluster"))

    # --- jobs ------------------------------------------------------------------------------------------------------

    def submit(self, job: Job, fingerprint: str) -> None:
        """Have a job carried out, unless somebody does, or did, exactly this.

        Raises:
            RunError: it can be carried out on this machine only, or a worker lacks its suite or its methods.
        """
        if job.stays:
            raise RunError(f"{job.label}: can't go to a cluster, since {job.stays}; leave out the scheduler")
        self._require_suite(job)
        self._require_methods(job)
        run, taken = self._store.take(job, fingerprint)
        if not taken and not (run.state == "queued" and self._store.claim(run.id)):
            return
        self._store.progress(run.id, 0, 0, "on the cluster", True)
        future = self._client.submit(
            Sent(enter),
            __version__,
            job.model_dump_json(),
            fingerprint,
            run.id,
            self._topic,
            key=_key(run.id),
            pure=False,
            resources=self._resources,
        )
        self._sent[run.id] = _Sent(job, future)

    def look_after(self) -> None:
        """Keep the rows of runs alive, write what came of them, pass on that some are to stop."""
        self._welcome()
        for run_id, sent in list(self._sent.items()):
            asked, pending = self._store.beat(run_id) is not None, sent.future.status == "pending"
            if pending and not asked:
                self._write_progress(run_id)
                continue
            del self._sent[run_id]
            if pending:
                self._stop(run_id, sent.future)
                self._store.stop(run_id, "cancelled", "cancelled; on the cluster it stops after its present step")
            else:
                self._record(run_id, sent)

    def _hear(self, event: Any) -> None:
        """Notice how far a run is, see :func:`carry_out_on_worker`; called from a thread of Dask's."""
        run_id, done, total, message = event[1]
        self._told[run_id] = (done, total, message)

    def _write_progress(self, run_id: str) -> None:
        told = self._told.pop(run_id, None)
        if told is None:
            return
        done, total, message = told
        phase = phase_of(message)
        aside = f"; left out: {_listed(self._left_out)}" if self._left_out else ""
        self._store.progress(run_id, done, total, message + aside, phase != self._phases.get(run_id))
        self._phases[run_id] = phase

    def _record(self, run_id: str, sent: _Sent) -> None:
        """Write how a task ended."""
        if sent.future.status == "finished":
            result, weights, answers = sent.future.result()
            for key, value in answers.items():
                self._store.remember_predictions(key, run_id, value)
            if weights is not None:
                with atomic_path(self._store.folder(run_id) / KEPT_WEIGHTS) as temporary:
                    temporary.write_bytes(weights)
            self._store.finish(run_id, sent.job.result.model_validate(result))
            return
        error = sent.future.exception() if sent.future.status == "error" else None
        if error is None:
            self._store.stop(run_id, "lost", "the cluster lost this run; run it again")
        else:
            ending = Ending.of(error, " on the cluster")
            self._store.stop(run_id, ending.state, ending.reason)

    def _stop(self, run_id: str, future: "Future[Any]") -> None:
        from distributed import Event

        Event(_key(run_id), client=self._client).set()  # a task that has begun can't be taken back, only asked to stop
        future.cancel()

    def close(self) -> None:
        """Take back what is still under way."""
        for run_id, sent in self._sent.items():
            self._stop(run_id, sent.future)
            self._store.stop(run_id, "lost", "the connection to the cluster was closed; run it again")
        self._client.close()


def _key(run_id: str) -> str:
    return f"merging-{run_id}"


def _other_python(version: str) -> bool:
    """Whether code of this Python is none of that one's: they differ in more than the third number."""
    return version.split(".")[:2] != platform.python_version().split(".")[:2]


def _listed(trouble: dict[str, str], total: int = 0) -> str:
    """Workers and what is wrong with each, of so many."""
    head = f"{len(trouble)} of {total} workers of the cluster can't carry this out: " if total else ""
    return head + "; ".join(f"{name} {reason}" for name, reason in sorted(trouble.items()))


# --- on the workers ------------------------------------------------------------------------------------------------


def lacks_suite(suite: str, tasks: Sequence[str]) -> str:
    """What this machine lacks of a suite: all of it, or models of some tasks; empty if nothing."""
    try:
        missing = sorted(set(tasks) - set(load_suite(suite).mergeable()))
    except MergingError as error:
        return f"can't open the suite: {error}"
    return f"lacks the models of {', '.join(missing)}" if missing else ""


def lacks_methods(sources: dict[str, str]) -> str:
    """Which of some methods, named with the hashes of their sources, this machine lacks; empty if it has all."""
    own.refresh()
    missing = sorted(name for name, _ in sources.items() - own.sources(registry.stages()).items())
    return f"lacks the source of {', '.join(missing)}, or has another{own.aside()}" if missing else ""


def carry_out_on_worker(job: str, fingerprint: str, run_id: str, topic: str) -> _Came:
    """What a worker of the cluster does for a run.

    Gives its result, weights that no table rebuilds if small, and what such weights predict by the keys under which it
    is remembered.

    Args:
        job: as JSON, since nothing but text and numbers goes to and fro.
        fingerprint: of the job on the files that it was asked for.
        run_id: of its row.
        topic: of Dask's events, under which it tells how far it is.
    """
    from distributed import Event, get_worker

    own.refresh()
    worker, stop = get_worker(), Event(_key(run_id))
    asked = told = 0.0
    shown = ""

    def cancelled() -> bool:
        nonlocal asked
        if time.monotonic() - asked < _ASK_SECONDS:
            return False
        asked = time.monotonic()
        return bool(stop.is_set())

    def report(done: int, total: int, message: str) -> None:
        nonlocal told, shown
        phase, now = phase_of(message), time.monotonic()
        if phase != shown or now - told > _TELL_SECONDS:
            worker.log_event(topic, [run_id, done, total, message])
            shown, told = phase, now

    workspace = Workspace(Path(worker.local_directory) / "merging")
    with TemporaryDirectory(dir=worker.local_directory) as folder:
        kept = Path(folder) / KEPT_WEIGHTS
        answers: dict[str, bytes] = {}

        def keep_answers(key: str, run_id: str, value: bytes) -> None:
            answers[key] = value

        site = Site(workspace, report, cancelled, keep=kept, run_id=run_id, on_predicted=keep_answers)
        result = carry_out(parse_job(json.loads(job)), fingerprint, site)
        size = kept.stat().st_size if kept.is_file() else 0
        weights = kept.read_bytes() if 0 < size <= FETCHED_BYTES else None
        return (_without_weights(result, size) if size > FETCHED_BYTES else result).stored(), weights, answers


def _without_weights(result: JobResult, size: int) -> JobResult:
    """A result that says that its weights did not come with it."""
    if not isinstance(result, MergeResult):
        return result
    stayed = (
        f"the merged weights ({size / 2**20:.0f} MiB) stayed on the cluster, which sends up to "
        f"{FETCHED_BYTES / 2**20:.0f} MiB; to export them, delete this run and make it on this machine"
    )
    return result.model_copy(update={"warnings": [*result.warnings, stayed]})
