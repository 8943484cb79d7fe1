"""A shared dashboard and its worker, killed in the middle of what people do, and started again."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener

import psutil
import pytest

from merging.core.owner import owner_secret
from merging.runs.worker.serve import sole_worker
from merging.runs.workspace import Workspace
from merging.suites import load_suite
from tests.app.conftest import build_suite
from tests.app.finished_runs import spec_of
from tests.dashboard import ROOT, free_port, wait_until_healthy
from tests.waiting import PATIENCE, until
from tests.websocket import Drawn, Visitor, visiting

LONG = {"steps": 20_000, "batch_size": 2}


class Site:
    """A folder for runs, and the dashboard of it as long as that lives."""

    def __init__(self, folder: Path) -> None:
        self.home, self._suites = folder / "home", folder / "suites"
        self.suite = load_suite(build_suite(self._suites / "tiny"))
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "merging", "serve", "--port", str(self._port), "--runs-per-person", "20"]
        command += ["--home", str(self.home), "--suites", str(self._suites)]
        with (self._suites / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        wait_until_healthy(f"{self.url}/_stcore/health", self._process)

    def kill(self) -> None:
        """The server with the command that started it."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(PATIENCE)
            self._process = None

    def workers(self) -> list[psutil.Process]:
        """The worker and its children."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if "worker" in words and str(self.home.resolve()) in words:
                found.append(process)
        return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.kill()
    for process in site.workers():
        process.kill()


def press(visitor: Visitor, page: str, query: str, label: str) -> Drawn:
    """Look at a page, then press a button of it."""
    (button,) = [key for key, words in visitor.run(page, query).buttons.items() if words == label]
    return visitor.run(page, query, [button])


def asked(phone: OpenerDirector, link: str, answer: dict[str, str] | None = None) -> str:
    """What a phone shows that opens a link, or answers."""
    try:
        with phone.open(link, urlencode(answer).encode() if answer else None, timeout=PATIENCE) as page:
            return str(page.read().decode())
    except HTTPError as error:
        return error.read().decode()


def test_nothing_is_lost_but_what_was_in_flight(site: Site) -> None:
    phone = build_opener(HTTPCookieProcessor())
    teaching, merging = "suite=tiny&step=3", "suite=tiny&merge=average"
    with ExitStack() as while_it_lives:
        while_it_lives.enter_context(sole_worker(site.home))  # so that what is queued stays so
        site.start()
        owner = while_it_lives.enter_context(visiting(site.url, {}))
        guest = while_it_lives.enter_context(visiting(site.url, {}))
        own = f"owner={owner_secret(site.home)}"
        owner.run("learn", f"{teaching}&{own}")
        drawn = press(owner, "learn", teaching, "Ask the class")
        code = re.findall(r"/poll/(\w{6})", drawn.texts)[0]
        link = f"{site.url}/poll/{code}"
        (token,) = re.findall(r'name="phone" value="(\w+)"', asked(phone, link))
        answer = {"phone": token, "question": "1", "choice": "2"}
        assert "Your answer: <b>C</b>" in asked(phone, link, answer)
        cookie = re.findall(rb"merging-guest=([\w.]+)", guest.run("merge", merging).raw)[0].decode()
        press(guest, "merge", merging, "Merge")
        store = Workspace(site.home).store
        (quick,) = store.active()
        (button,) = [key for key, words in guest.run("start", "suite=tiny").buttons.items() if "comparison" in words]
        guest.ask("start", "suite=tiny", [button])
        until(lambda: len(store.active()) > 2)
        site.kill()

    there = store.active()
    assert quick in there and {run.person for run in there} == {quick.person}
    assert {run.state for run in there} == {"queued"} and len({run.fingerprint for run in there}) == len(there)
    for run in there:
        if run.id != quick.id:
            store.cancel(run.id)
    long = Workspace(site.home).submit(spec_of(site.suite, merge="adamerging", merge_params=LONG), quick.person)
    site.start()
    for shown in (asked(phone, link), asked(phone, link, answer)):
        assert "No question here" in shown
    with visiting(site.url, {}) as teacher:
        drawn = teacher.run("learn", f"{teaching}&class={code}&{own}")
        assert f"The code {code} is closed" in drawn.texts and "Ask the class" in drawn.buttons.values()
    with visiting(site.url, {"merging-guest": cookie}) as guest:
        drawn = guest.run("learn", f"{teaching}&class={code}")  # any page has the queue go on
        assert f"The code {code} is closed" in drawn.texts and "owner's link" in drawn.texts
        until(lambda: store.get(quick.id).state == "done")
        until(lambda: store.get(long.id).state == "running")
        processes = site.workers()
        (worker,) = (one for one in processes if one.ppid() not in {other.pid for other in processes})
        children = [one for one in processes if one != worker]
        worker.kill()
        until(lambda: not any(child.is_running() for child in children))  # it notices that it is alone
        with sqlite3.connect(store.path) as connection:  # a while later
            connection.execute("update runs set heartbeat = 0 where id = ?", (long.id,))
        drawn = guest.run("runs", f"suite=tiny&run={long.id}")
        assert "run it again" in drawn.texts and "Run again" in drawn.buttons.values()
    assert store.get(long.id).state == "lost" and store.get(quick.id).result is not None
