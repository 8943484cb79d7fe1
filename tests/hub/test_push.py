"""Uploading a run with huggingface_hub: what arrives, who may read it, and what is refused before anything is sent."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from click.testing import CliRunner

from merging.cli import main
from merging.core.errors import HubError
from merging.core.progress import no_progress
from merging.hub.upload import look_at
from merging.runs.export.export import export_run
from merging.runs.export.push import push_run
from merging.runs.foreground import run_here
from merging.runs.jobs import MergeSpec
from merging.runs.run import Run
from merging.runs.workspace import Workspace
from merging.weights.files.writing import Form
from tests.fake_hub import FakeHub
from tests.random_models import TASKS

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's own client


@pytest.fixture
def run(suite_file: Path, workspace: Workspace) -> Run:
    """A finished merge."""
    return run_here(MergeSpec.build(suite=str(suite_file), tasks=TASKS), workspace, None, no_progress)


@pytest.fixture(autouse=True)
def _somebody(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who may write, on a hub that takes files as large ones of git."""
    hub.token = "hf_of_somebody"
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)


def push(run: Run, workspace: Workspace, *options: str) -> Any:
    return CliRunner().invoke(main, ["push", run.id, "somebody/merged", *options, "--home", str(workspace.home)])


def test_weights_recipe_and_card_arrive_in_a_private_repository(
    hub: FakeHub, run: Run, workspace: Workspace, tmp_path: Path
) -> None:
    result = push(run, workspace)
    assert result.exit_code == 0, result.output
    assert "pushed: https://huggingface.co/somebody/merged (private), " in result.stdout
    assert "uploading README.md, file 1 of 7" in result.stderr
    expected = {path.name: path.read_bytes() for path in export_run(run, workspace, tmp_path / "out")}
    assert hub.files["somebody/merged"] == {".gitattributes": b"", **expected}
    assert hub.private == {"somebody/merged"}
    assert [commit["summary"] for commit in hub.commits["somebody/merged"]] == [f"{run.spec.label}, run {run.id}"]
    assert [path.name for path in workspace.home.iterdir() if path.name.startswith(".push")] == []
    tokens = {headers.get("Authorization") for _, path, headers in hub.asked if path.startswith("/lfs/")}
    assert tokens == {None}  # not shown to where large files go


def test_public_only_when_asked_for(hub: FakeHub, run: Run, workspace: Workspace) -> None:
    assert "(public)" in push(run, workspace, "--public").stdout
    assert hub.private == set()


def test_the_same_run_is_brought_up_to_date_and_nothing_of_before_stays(
    hub: FakeHub, run: Run, workspace: Workspace
) -> None:
    push_run(run, workspace, "somebody/merged")
    form = ["--layout", "hugging-face", "--dtype", "float16", "--shard-size", "20KB"]
    assert push(run, workspace, *form).exit_code == 0
    names = sorted(hub.files["somebody/merged"])
    assert "model.safetensors" not in names and "model.safetensors.index.json" in names and "classify.py" not in names
    assert len(hub.commits["somebody/merged"]) == 2 and "parentCommit" in hub.commits["somebody/merged"][1]


@pytest.mark.parametrize(
    ("files", "private", "options", "said"),
    [
        ({"README.md": b"mine"}, True, [], "holds README.md; nothing was uploaded; choose another name"),
        ({}, False, [], "is there and is public; nothing was uploaded; add --public if that is meant"),
        ({}, True, ["--public"], "is there and is private; nothing was uploaded; leave out --public"),
    ],
)
def test_a_repository_that_is_there_is_not_written_to_unasked(
    hub: FakeHub,
    run: Run,
    workspace: Workspace,
    files: dict[str, bytes],
    private: bool,
    options: list[str],
    said: str,
) -> None:
    hub.files["somebody/merged"] = {".gitattributes": b"", **files}
    hub.private = {"somebody/merged"} if private else set()
    result = push(run, workspace, *options)
    assert result.exit_code == 1
    assert said in result.stderr
    assert [method for method, _, _ in hub.asked if method != "GET"] == []


def test_another_run_is_not_replaced(hub: FakeHub, run: Run, suite_file: Path, workspace: Workspace) -> None:
    spec = MergeSpec.build(suite=str(suite_file), tasks=TASKS, merge="average")
    other = run_here(spec, workspace, None, no_progress)
    push_run(other, workspace, "somebody/merged")
    with pytest.raises(HubError, match=f"holds run {other.id}; nothing was uploaded"):
        push_run(run, workspace, "somebody/merged")
    assert len(hub.commits["somebody/merged"]) == 1


def test_without_a_token_nobody_is_asked(
    hub: FakeHub, run: Run, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert "no token of the Hugging Face hub; set HF_TOKEN" in push(run, workspace).stderr
    assert hub.asked == []


def test_a_token_that_may_not_write(hub: FakeHub, run: Run, workspace: Workspace) -> None:
    hub.token = "hf_of_somebody_else"
    assert "the token may not write there" in push(run, workspace).stderr
    assert hub.files == {}


def test_a_transfer_that_is_refused_makes_no_commit(hub: FakeHub, run: Run, workspace: Workspace) -> None:
    hub.refused_uploads = True
    assert "the transfer of a file broke off" in " ".join(push(run, workspace).stderr.split())
    assert hub.files["somebody/merged"] == {".gitattributes": b""}


def test_without_a_network(hub: FakeHub, run: Run, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "the Hugging Face hub can't be reached" in push(run, workspace).stderr


@pytest.mark.parametrize("name", ["merged", "a/b/c", "../x", "somebody/"])
def test_names_that_are_no_repository(name: str) -> None:
    with pytest.raises(HubError, match="expected OWNER/NAME"):
        look_at(name, public=False)


def test_a_run_that_is_not_done_or_can_not_be_written_is_refused_before_a_repository_is_made(
    hub: FakeHub, suite_file: Path, workspace: Workspace
) -> None:
    spec = MergeSpec.build(suite=str(suite_file), tasks=TASKS, merge="tall_masks")
    run = run_here(spec, workspace, None, no_progress)
    assert "leave out --layout, --dtype" in push(run, workspace, "--dtype", "float16").stderr
    assert hub.files == {}
    assert Form().plain
