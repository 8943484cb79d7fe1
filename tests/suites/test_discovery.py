"""Suites are found once, and every change to what there is gets noticed."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from merging.suites import discovery
from merging.suites.discovery import Discovery, Seen, Watched, state_of
from tests.fake_hub import FakeHub
from tests.random_models import write_suite

LONG_AGO = 10**18  # nanoseconds since the epoch: files that old can be trusted


def settle(*roots: Path) -> None:
    """Make everything in some folders look as if it had not been changed for long."""
    for root in roots:
        for path in (root, *root.rglob("*")):
            if not path.is_symlink():
                os.utime(path, ns=(LONG_AGO, LONG_AGO))


# --- remembering -----------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file in a folder of its own, both old."""
    file = tmp_path / "folder" / "file"
    file.parent.mkdir()
    file.write_text("one")
    settle(file.parent)
    return file


def counting(file: Path) -> tuple[Watched[str], list[str]]:
    """The content of a file and the names beside it, and how often they were read."""
    reads: list[str] = []

    def read(seen: Seen) -> str:
        seen |= {file, file.parent}
        reads.append(" ".join(sorted(os.listdir(file.parent))) + ": " + (file.read_text() if file.exists() else ""))
        return reads[-1]

    return Watched(read), reads


def test_what_stays_the_same_is_found_once(file: Path) -> None:
    value, reads = counting(file)
    assert [value() for _ in range(5)] == ["file: one"] * 5
    assert len(reads) == 1


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "written in place": (lambda file: file.write_text("two"), "file: two"),
    "replaced": (lambda file: os.replace(shutil.copy(file, file.with_name("new")), file), "file: one"),
    "removed": (lambda file: file.unlink(), ": "),
    "joined by another": (lambda file: file.with_name("more").touch(), "file more: one"),
    "renamed": (lambda file: file.rename(file.with_name("other")), "other: "),
    "back-dated": (lambda file: os.utime(file, ns=(LONG_AGO, LONG_AGO - 1)), "file: one"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed_at_once(change: str, file: Path) -> None:
    value, reads = counting(file)
    value()
    act, found = CHANGES[change]
    act(file)
    assert value() == found
    assert len(reads) == 2


def test_a_second_change_in_the_same_tick_of_the_file_systems_clock_is_noticed(file: Path) -> None:
    value, _ = counting(file)
    now = time.time_ns()
    file.write_text("two")
    os.utime(file, ns=(now, now))
    assert value() == "file: two"
    number = file.stat().st_ino
    file.write_text("TWO")
    os.utime(file, ns=(now, now))
    assert file.stat().st_ino == number and state_of(file) == (now, 3, number)  # nothing shows but the content
    assert value() == "file: TWO"


def test_what_changed_lately_is_trusted_after_a_while(file: Path) -> None:
    now = 1000.0
    value, reads = counting(file)
    value.clock = lambda: now
    os.utime(file, ns=(0, 999 * 10**9))
    os.utime(file.parent, ns=(0, 0))
    value(), value()
    assert len(reads) == 2
    now = 1001.5
    value(), value()
    assert len(reads) == 3


def test_after_an_error_it_is_tried_again(file: Path) -> None:
    def read(seen: Seen) -> str:
        seen.add(file)
        if file.read_text() == "one":
            raise ValueError("one")
        return file.read_text()

    value = Watched(read)
    with pytest.raises(ValueError, match="one"):
        value()
    file.write_text("two")
    assert value() == "two"


# --- suites ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a suite ``tiny``, and no other suite anywhere."""
    monkeypatch.setattr("merging.suites.suite.builtin_suites", dict)
    monkeypatch.setattr("merging.suites.discovery.builtin_suites", dict)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    (tmp_path / "root").mkdir()
    write_suite(tmp_path / "root" / "tiny")
    settle(tmp_path / "root")
    return tmp_path / "root"


def titled(path: Path, title: str) -> None:
    """Give a suite another title."""
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"title": title}))


def test_a_second_look_asks_for_the_state_of_each_thing_and_opens_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = Discovery([root])
    first = find()
    assert list(first.entries) == ["tiny"]

    def refuse(*_: object) -> None:
        raise AssertionError("looked again")

    asked: list[object] = []
    monkeypatch.setattr(discovery, "load_suite", refuse)
    monkeypatch.setattr(discovery, "_suite_files", refuse)
    monkeypatch.setattr(discovery, "state_of", lambda path: (asked.append(path), state_of(path))[1])
    assert find() is first
    assert len(asked) < 12


@pytest.mark.parametrize("place", [".", "new", "new/deeper", "tiny/inside"])
def test_a_suite_that_is_added_is_found(place: str, root: Path) -> None:
    find = Discovery([root])
    find()
    (root / place).mkdir(parents=True, exist_ok=True)
    assert list(find().entries) == ["tiny"]
    for file in (root / "tiny").iterdir():
        if file.is_file():
            shutil.copy(file, root / place)
    name = (root / place).resolve().name
    assert list(find().entries) == sorted(["tiny", name])
    assert (
        find().described[str(root / place / "suite.yaml")].task_names
        == find().described[str(root / "tiny" / "suite.yaml")].task_names
    )


def test_a_suite_too_far_below_is_not_found(root: Path) -> None:
    find = Discovery([root])
    find()
    write_suite(root / "a" / "b" / "c")
    assert list(find().entries) == ["tiny"]


def test_a_suite_that_changes_breaks_is_mended_or_goes_is_noticed(root: Path) -> None:
    find, path = Discovery([root]), root / "tiny" / "suite.yaml"
    find()
    good = path.read_text()
    titled(path, "Other title")
    assert find().entries["tiny"].label == "Other title"
    path.write_text("name: tiny\nsurprise: 1\n")
    assert "suite.yaml" in find().entries["tiny"].problem and str(path) not in find().described
    path.write_text(good)
    assert not find().entries["tiny"].problem
    shutil.rmtree(root / "tiny")
    assert not find().entries


def test_a_root_that_appears_later_is_searched(root: Path) -> None:
    find = Discovery([root.parent / "later"])
    assert not find().entries
    shutil.copytree(root, root.parent / "later")
    assert list(find().entries) == ["tiny"]


def test_the_embedded_suite_is_found_once_it_is_built(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_BUILT_HERE", root.parent / "mini")
    find = Discovery([])
    assert not find().entries
    write_suite(root.parent / "mini")
    for module in ("suite", "discovery"):
        monkeypatch.setattr(f"merging.suites.{module}.builtin_suites", lambda: {"mini": root.parent / "mini"})
    assert list(find().entries) == ["mini"]


def test_equal_names_are_told_apart(root: Path) -> None:
    write_suite(root / "group" / "tiny")
    assert list(Discovery([root])().entries) == ["tiny", "tiny-2"]


def test_a_downloaded_suite_is_found(root: Path) -> None:
    find = Discovery([root])
    find()
    snapshots = root.parent / "hub-cache" / "models--zoo--animals" / "snapshots"
    write_suite(snapshots / "main")
    assert list(find().entries) == ["tiny", "zoo/animals"]
    settle(root.parent / "hub-cache")
    find()
    (snapshots / "main" / "suite.yaml").unlink()
    assert list(find().entries) == ["tiny"]


def test_a_new_commit_of_a_downloaded_suite_is_noticed_though_its_description_is_the_same_file(root: Path) -> None:
    find = Discovery([root])
    repository = root.parent / "hub-cache" / "models--zoo--animals"
    description = write_suite(repository / "snapshots" / "one")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("one")
    settle(root.parent / "hub-cache")
    assert find().described["zoo/animals"].folder.name == "one"
    (repository / "snapshots" / "two").mkdir()
    (repository / "snapshots" / "two" / "suite.yaml").hardlink_to(description)
    (repository / "refs" / "main").write_text("two")
    assert find().described["zoo/animals"].folder.name == "two"


def test_a_published_suite_is_one_to_choose_as_soon_as_a_model_is_here(
    root: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = write_suite(root.parent / "ready")
    content = yaml.safe_load(ready.read_text())
    name = content["tasks"][0]["name"]
    content["tasks"] = [{"name": name, "checkpoint": {"hub": "zoo/one"}}]
    ready.write_text(yaml.safe_dump(content))
    for module in ("suite", "discovery"):
        monkeypatch.setattr(f"merging.suites.{module}.builtin_suites", lambda: {"ready": ready.parent})
    find = Discovery([])
    assert list(find().published) == ["ready"] and not find().entries
    assert hub.asked == []
    snapshot = root.parent / "hub-cache" / "models--zoo--one" / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    assert not find().entries
    shutil.copy(ready.parent / f"{name}.safetensors", snapshot / "model.safetensors")
    assert list(find().entries) == ["ready"]
    paths = find.files("ready", find().described["ready"])
    assert snapshot / "model.safetensors" in paths and ready in paths


def test_the_files_of_a_suite_are_all_that_it_names(root: Path) -> None:
    find = Discovery([root])
    reference = str(root / "tiny" / "suite.yaml")
    suite = find().described[reference]
    files = find.files(reference, suite)
    named = [task.checkpoint for task in suite.tasks] + [task.head for task in suite.tasks] + [suite.base]
    assert {root / "tiny" / str(name) for name in named} | {Path(reference)} <= set(files)
    assert {suite.images_path(name) for name in suite.task_names} <= set(files)
    assert find.files(reference, suite) is files
