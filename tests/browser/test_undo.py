"""Deleting a run in a real browser, and having it back."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from merging.runs.export.weights import KEPT_WEIGHTS
from merging.runs.workspace import Workspace
from merging.suites import load_suite
from tests.app.finished_runs import finished
from tests.browser.conftest import Server, barriers


def test_a_deleted_run_comes_back(visit: Callable[..., Page], server: Server) -> None:
    space = Workspace(server.home)
    run = finished(space, load_suite(server.home.parent / "suites" / "tiny"), seed=271)
    kept = space.store.folder(run.id) / KEPT_WEIGHTS
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"weights")

    page = visit(f"/runs?suite=tiny&run={run.id}")
    expect(page.get_by_role("heading", name="Task Arithmetic")).to_be_visible()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text(f"{run.id} was deleted")).to_be_visible()
    assert space.store.find(run.fingerprint) is None
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text(f"{run.id} was deleted")).to_have_count(0)
    assert space.store.get(run.id) == run and kept.read_bytes() == b"weights"
    assert not barriers(page)
