"""A guest's run that takes too much is stopped, and says why; the owner's are nobody's business."""

import time

import pytest

from merging.core.guests import LIMITS_FILE, OWNER, Limits, write_limits
from merging.runs.jobs import MergeSpec, Site
from merging.runs.worker.serve import Worker
from merging.runs.workspace import Workspace
from tests.runs.worker.test_serve import alive, spec
from tests.waiting import until

BRIEF = Limits(minutes=0.001)
SMALL = Limits(memory=64 * 2**20)
NARROW = Limits(disk_per_person=10**6)


def idle(job: MergeSpec, site: Site) -> None:
    time.sleep(600)


def hungry(job: MergeSpec, site: Site) -> None:
    held = bytearray(200 * 2**20)
    held[:] = b"1" * len(held)
    time.sleep(600)


def wordy(job: MergeSpec, site: Site) -> None:
    assert site.keep is not None
    site.keep.write_bytes(b"1" * 2 * 10**6)
    time.sleep(600)


@pytest.mark.parametrize(
    ("limits", "body", "person", "why"),
    [
        (BRIEF, idle, "guest 1", "it was over its time: a run may take 0.001 minutes here"),
        (SMALL, hungry, "guest 1", "it was over its memory: a run may hold 0.1 GiB here"),
        (NARROW, wordy, "guest 1", "it was over its room: files of a person may take 0.001 GB here"),
        (BRIEF, idle, OWNER, ""),
        (SMALL, idle, "guest 1", ""),
    ],
)
def test_a_run_that_takes_too_much_is_stopped(
    workspace: Workspace,
    suite_file: str,
    monkeypatch: pytest.MonkeyPatch,
    limits: Limits,
    body: object,
    person: str,
    why: str,
) -> None:
    monkeypatch.setattr(MergeSpec, "run", body)
    workspace.home.mkdir(exist_ok=True)
    write_limits(workspace.home, limits)
    run = workspace.submit(spec(suite_file), person)
    worker = Worker(workspace)
    worker.start_queued()
    (child,) = worker.children.values()
    if why:
        until(lambda: worker.look_after() is None and not worker.children)
        ended = workspace.store.get(run.id)
        assert ended.state == "failed" and (ended.error or "").startswith(why)
    else:
        worker.look_after()
        assert workspace.store.get(run.id).state == "running"
        child.process.kill()
    until(lambda: not alive(child.process.pid))


def test_without_readable_limits_the_usual_ones_hold(workspace: Workspace, suite_file: str) -> None:
    run = workspace.submit(spec(suite_file, seed=7), "guest 1")
    (workspace.home / LIMITS_FILE).write_text("{}}")
    Worker(workspace).serve(once=True)
    assert workspace.store.get(run.id).state == "done"
