"""Where the table of runs lies, and the journal that is kept there."""

import multiprocessing
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from merging.cli import main
from merging.core.errors import RunError
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.journal import mount_of
from merging.runs.table import RunStore
from tests.waiting import PATIENCE

SPEC = MergeSpec.build(suite="tiny", tasks=("a", "b"))
Mounted = Callable[..., None]


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> Mounted:
    """A function that says what the system has mounted: pairs of folder and kind, with options."""

    def say(*mounts: tuple[Path | str, str], options: str = "rw,relatime") -> None:
        rows = [SimpleNamespace(mountpoint=str(place), fstype=kind, opts=options) for place, kind in mounts]
        monkeypatch.setattr("merging.runs.journal.psutil.disk_partitions", lambda all: rows)

    return say


def mode(store: RunStore) -> str:
    """The journal that a connection finds."""
    with closing(sqlite3.connect(store.path)) as connection:
        return str(connection.execute("pragma journal_mode").fetchone()[0])


@pytest.mark.parametrize(
    ("kind", "shared"),
    [
        ("ext4", False),
        ("apfs", False),
        ("NTFS", False),
        ("tmpfs", False),
        ("overlay", False),
        ("fuseblk", False),
        ("nfs", True),
        ("nfs4", True),
        ("cifs", True),
        ("lustre", True),
        ("beegfs", True),
        ("9p", True),
        ("fuse.sshfs", True),
        ("fuse.fuse-overlayfs", False),
    ],
)
def test_a_folder_is_known_by_the_file_system_that_it_lies_on(
    kind: str, shared: bool, mounted: Mounted, tmp_path: Path
) -> None:
    mounted(("/", "ext4"), (tmp_path, kind), (f"{tmp_path}-other", "nfs"))
    assert mount_of(tmp_path / "home").shared == shared
    store = RunStore(tmp_path / "home")
    assert mode(store) == store.journal.mode == ("delete" if shared else "wal")
    assert (f"({kind})" in store.journal.note) == shared == ("rollback journal" in store.journal.note)


def test_the_last_and_innermost_mount_counts(mounted: Mounted, tmp_path: Path) -> None:
    mounted((tmp_path, "autofs"), (tmp_path, "nfs4"), ("/", "ext4"))
    assert mount_of(tmp_path).kind == "nfs4"
    mounted((tmp_path, "nfs4"), (tmp_path / "scratch", "xfs"), ("/", "ext4"))
    assert not mount_of(tmp_path / "scratch" / "home").shared
    mounted()
    assert not mount_of(tmp_path).shared


def test_a_folder_without_locks_between_machines_is_said_to_be_one(mounted: Mounted, tmp_path: Path) -> None:
    mounted((tmp_path, "nfs"), options="rw,nolock,vers=3")
    assert "(nolock): two at once would damage the table" in RunStore(tmp_path).journal.note
    mounted((tmp_path, "ext4"), options="rw,nolock")
    assert not RunStore(tmp_path / "other").journal.note


def test_a_store_that_had_the_other_journal_is_changed_and_loses_nothing(mounted: Mounted, tmp_path: Path) -> None:
    before = RunStore(tmp_path)
    run = before.submit(SPEC, "f")
    assert mode(before) == "wal"
    mounted((tmp_path, "nfs4"))
    after = RunStore(tmp_path)
    assert mode(after) == "delete" and after.get(run.id) == run
    assert not list(tmp_path.glob("*-wal"))


def test_the_machine_whose_disk_it_is_keeps_to_it_too(mounted: Mounted, tmp_path: Path) -> None:
    mounted((tmp_path, "nfs4"))
    RunStore(tmp_path)
    mounted((tmp_path, "ext4"))  # as the server of the network folder sees it
    there = RunStore(tmp_path)
    assert mode(there) == "delete" and "can be reached over a network" in there.journal.note


def test_a_log_that_another_program_uses_is_not_pulled_away(
    mounted: Mounted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(tmp_path)
    connect = sqlite3.connect
    with closing(connect(store.path, isolation_level=None)) as other:
        other.execute("begin")
        other.execute("select * from runs").fetchall()
        mounted((tmp_path, "nfs4"))
        monkeypatch.setattr("sqlite3.connect", lambda *args, **options: connect(*args, **{**options, "timeout": 0.1}))
        with pytest.raises(RunError, match="another program has it open with a write-ahead log"):
            RunStore(tmp_path)
        assert mode(store) == "wal"
    assert mode(RunStore(tmp_path)) == "delete"


def test_the_command_line_says_so(mounted: Mounted, tmp_path: Path) -> None:
    mounted((tmp_path, "nfs4"))
    said = CliRunner().invoke(main, ["runs", "list", "--home", str(tmp_path / "home")])
    assert said.exit_code == 0 and "note: The folder for runs lies on a file system that machines share" in said.stderr


def work(home: Path, name: str, barrier: Any, found: Any) -> None:
    """Queue, claim, carry out and finish runs, some of them those of the other process as well."""
    store, done = RunStore(home), []
    barrier.wait()
    for number in range(12):
        store.submit(SPEC, f"{name} {number}")
        run = store.submit(SPEC, f"both {number}")
        if store.claim(run.id):
            store.progress(run.id, 1, 2, "merging", new_phase=True)
            store.remember_accuracy(f"{name} {number}", {"accuracy": 0.5})
            store.finish(run.id, MergeResult(average=0.5))
            done.append(run.fingerprint)
    found.put((store.journal.mode, done))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_two_processes_at_once_lose_nothing_under_the_rollback_journal(mounted: Mounted, tmp_path: Path) -> None:
    mounted((tmp_path, "nfs4"))
    fork = multiprocessing.get_context("fork")
    barrier, found = fork.Barrier(2), fork.Queue()
    children = [fork.Process(target=work, args=(tmp_path, name, barrier, found)) for name in "AB"]
    for child in children:
        child.start()
    results = [found.get(timeout=PATIENCE) for _ in children]
    for child in children:
        child.join()
    assert [mode for mode, _ in results] == ["delete", "delete"]
    done = [fingerprint for _, each in results for fingerprint in each]
    assert sorted(done) == sorted({f"both {number}" for number in range(12)})  # each by one of them
    store = RunStore(tmp_path)
    states = [run.state for run in store.all()]
    assert states.count("done") == 12 and states.count("queued") == 24
    with store.connect() as connection:
        assert connection.execute("pragma integrity_check").fetchone()[0] == "ok"
