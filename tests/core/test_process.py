"""Processes of the worker, copied and fresh ones alike: status, killing with all descendants, noticing to be alone."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from merging.core import process as module
from merging.core.process import Process, become_independent, orphaned, start_method
from tests.waiting import until


@pytest.fixture(params=["fork", "spawn"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of starting, whichever this system has by itself.

    A fresh Python imports what is the main module here, and tests of pages leave a page behind as that.
    """
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    monkeypatch.setattr(module, "start_method", lambda: request.param)
    return str(request.param)


def end_with(status: int) -> None:
    become_independent()
    os._exit(status)


def start_another_and_wait(file: Path) -> None:
    become_independent()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    file.write_text(str(child.pid))
    time.sleep(600)


def start_one_and_die(file: Path) -> None:
    """In the middle: its child is an orphan at once."""
    Process(wait_to_be_alone, file)
    until(file.exists)
    os._exit(0)


def wait_to_be_alone(file: Path) -> None:
    become_independent()
    alone = orphaned()
    file.write_text(f"{alone()} {os.getpid()}")
    until(alone)
    file.with_suffix(".alone").touch()
    os._exit(0)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_its_status_is_known_once_it_has_ended() -> None:
    process = Process(end_with, 3)
    assert process.pid != os.getpid()
    until(lambda: process.poll() is not None)
    assert process.poll() == 3
    process.kill()  # of no consequence any more


def test_killing_takes_all_that_it_has_started(tmp_path: Path) -> None:
    process = Process(start_another_and_wait, tmp_path / "pid")
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    assert process.poll() is None
    process.kill()
    until(lambda: process.poll() is not None)
    assert (process.poll() or 0) < 0
    until(lambda: gone(int((tmp_path / "pid").read_text())))


def test_it_notices_that_it_is_alone(tmp_path: Path, way: str) -> None:
    """The parent is a process of its own here, whose own child must be allowed to outlive it."""
    program = f"from tests.core.test_process import *; module.start_method = lambda: {way!r}"
    call = f"if __name__ == '__main__':\n    start_one_and_die(Path({str(tmp_path / 'first')!r}))"
    script = tmp_path / "parent.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(Path.cwd())!r})\n{program}\n{call}\n")
    subprocess.run([sys.executable, str(script)], check=True)
    until((tmp_path / "first.alone").exists)
    assert (tmp_path / "first").read_text().startswith("False ")


def test_what_was_not_started_so_has_no_parent() -> None:
    with pytest.raises(RuntimeError, match="started by Process"):
        orphaned()


def test_a_system_without_copies_starts_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert start_method() == ("spawn" if sys.platform in ("win32", "darwin") else "fork")
    monkeypatch.delattr(os, "fork", raising=False)
    assert start_method() == "spawn"
