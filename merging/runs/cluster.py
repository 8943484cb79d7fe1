"""Carrying out jobs on the workers of a Dask cluster (``distributed``), with the results in the local store.

The workers must find suites under the same paths and need this package. Each keeps its caches in its own scratch
folder, and sends small weights back, see :data:`FETCHED_BYTES`. Dask itself gives the tasks of a worker that is lost to
another one; a run on a GPU asks for the resource ``GPU``, which workers offer by
``dask worker ADDRESS --nthreads 1 --resources GPU=1``.
"""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from merging.core.errors import RunError
from merging.core.files import atomic_path
from merging.runs.carrying import Ending
from merging.runs.carrying import carry_out as carry_out_here
from merging.runs.export.weights import KEPT_WEIGHTS
from merging.runs.jobs import Job, JobResult, Site, parse_job
from merging.runs.table import RunStore
from merging.runs.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Future

FETCHED_BYTES = 64 * 2**20  # weights up to this size come back with a result
_ANSWER_SECONDS = 10
_ASK_SECONDS = 1.0  # how often a run asks the scheduler whether it is to stop


class Cluster:
    """A connection to a Dask scheduler.

    Args:
        address: of the scheduler, such as ``tcp://10.0.0.1:8786``.
        store: where runs and their results go.
        device: where the runs compute, on the machine of a worker.

    Raises:
        RunError: ``distributed`` is not installed, nobody answers, or no worker offers a GPU.
    """

    def __init__(self, address: str, store: RunStore, device: str) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise RunError("a cluster needs the package distributed: pip install -r requirements-cluster.txt") from None
        try:
            self._client = Client(address, timeout=_ANSWER_SECONDS, set_as_default=False)
        except (OSError, ValueError, TimeoutError):
            raise RunError(
                f"no Dask scheduler answers at {address!r}; expected an address such as tcp://10.0.0.1:8786"
            ) from None
        self._store = store
        self._resources = {"GPU": 1} if device.startswith("cuda") else None
        self._futures: dict[str, Future[Any]] = {}
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        if self._resources and workers and not any(worker["resources"].get("GPU") for worker in workers):
            self._client.close()
            raise RunError(
                f"none of the {len(workers)} workers of the cluster offers a GPU; start them with --resources GPU=1, "
                "or choose device: cpu"
            )

    def submit(self, job: Job, fingerprint: str) -> None:
        """Have a job carried out, unless somebody does, or did, exactly this."""
        run, taken = self._store.take(job, fingerprint)
        if taken:
            self._store.progress(run.id, 0, 0, "on the cluster", True)
            self._futures[run.id] = self._client.submit(
                carry_out,
                job.model_dump_json(),
                fingerprint,
                run.id,
                key=_key(run.id),
                pure=False,
                resources=self._resources,
            )

    def look_after(self) -> None:
        """Keep the rows of runs alive, write what came of them, pass on that some are to stop."""
        for run_id, future in list(self._futures.items()):
            asked = self._store.beat(run_id) is not None
            if future.status == "pending" and not asked:
                continue
            del self._futures[run_id]
            if future.status == "pending":
                self._stop(run_id, future)
                self._store.stop(run_id, "cancelled", "cancelled; on the cluster it stops after its present step")
            else:
                self._record(run_id, future)

    def _record(self, run_id: str, future: "Future[Any]") -> None:
        """Write how a task ended."""
        if future.status == "finished":
            result, weights = future.result()
            if weights is not None:
                with atomic_path(self._store.folder(run_id) / KEPT_WEIGHTS) as temporary:
                    temporary.write_bytes(weights)
            self._store.finish(run_id, result)
            return
        error = future.exception() if future.status == "error" else None
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
        for run_id, future in self._futures.items():
            self._stop(run_id, future)
            self._store.stop(run_id, "lost", "the connection to the cluster was closed; run it again")
        self._client.close()


def _key(run_id: str) -> str:
    return f"merging-{run_id}"


def carry_out(job: str, fingerprint: str, run_id: str) -> tuple[JobResult, bytes | None]:
    """What a worker of the cluster does for a run; gives its result, and weights that no table rebuilds if small."""
    from distributed import Event, get_worker

    stop, asked = Event(_key(run_id)), 0.0

    def cancelled() -> bool:
        nonlocal asked
        if time.monotonic() - asked < _ASK_SECONDS:
            return False
        asked = time.monotonic()
        return bool(stop.is_set())

    workspace = Workspace(Path(get_worker().local_directory) / "merging")
    with TemporaryDirectory(dir=get_worker().local_directory) as folder:
        kept = Path(folder) / KEPT_WEIGHTS
        site = Site(workspace, cancelled=cancelled, keep=kept)
        result = carry_out_here(parse_job(json.loads(job)), fingerprint, site)
        small = kept.is_file() and kept.stat().st_size <= FETCHED_BYTES
        return result, kept.read_bytes() if small else None
