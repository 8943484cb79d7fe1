"""What pages find out about folders of images: every change, some seconds later."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.runtime.caching import cache_utils

from merging.suites.images.folders import folder_state
from ui.shell import state


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two splits of two classes of two images each."""
    for place in ("val/a", "val/b", "test/a", "test/b"):
        (tmp_path / "images" / place).mkdir(parents=True)
        for name in ("1.png", "2.png"):
            (tmp_path / "images" / place / name).write_bytes(b"pixels")
    return tmp_path / "images"


class Clock:
    """Seconds that pass only when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The clock of streamlit's caches, and of how long walks take."""
    clock = Clock()
    st.cache_data.clear()
    monkeypatch.setattr(cache_utils, "TTLCACHE_TIMER", clock)
    monkeypatch.setattr("ui.shell.state.time.monotonic", clock)
    yield clock
    st.cache_data.clear()


def replace_in_place(folder: Path) -> None:
    """Other content of the same size; times of the folders above stay as they are."""
    file = folder / "test" / "a" / "1.png"
    before = [path.stat().st_mtime_ns for path in file.parents[:3]]
    file.write_bytes(b"PIXELS")
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert [path.stat().st_mtime_ns for path in file.parents[:3]] == before


def grow(folder: Path) -> None:
    with (folder / "test" / "a" / "1.png").open("ab") as file:
        file.write(b"more")


def back_date(folder: Path) -> None:
    os.utime(folder / "val" / "b" / "2.png", (0, 0))


def rename(folder: Path) -> None:
    (folder / "test" / "a" / "1.png").rename(folder / "test" / "b" / "3.png")


def remove(folder: Path) -> None:
    (folder / "test" / "a" / "1.png").unlink()


def add(folder: Path) -> None:
    (folder / "test" / "b" / "9.png").write_bytes(b"")


@pytest.mark.parametrize("change", [replace_in_place, grow, back_date, rename, remove, add])
def test_every_change_is_noticed_after_a_pause(change: Callable[[Path], None], images: Path, clock: Clock) -> None:
    def look() -> tuple[int, int]:
        return state._image_folders((str(images),))[str(images)]

    before = look()
    assert before[0] == 8
    change(images)
    clock.now += 2.9
    assert look() == before
    clock.now += 0.2
    assert look() != before


def test_without_a_change_the_state_stays(images: Path) -> None:
    assert folder_state(images) == folder_state(images)


def test_walks_take_a_twentieth_of_the_time_whatever_the_number_of_folders(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked = []

    def slow_walk(folder: Path) -> tuple[int, int]:
        clock.now += 0.5
        walked.append(folder)
        return 0, 0

    monkeypatch.setattr(state, "folder_state", slow_walk)
    folders, began = tuple(str(tmp_path / str(index)) for index in range(4)), clock.now
    for _ in range(2000):
        state._image_folders(folders)
        clock.now += 1.0
    assert 0.5 * len(walked) <= 0.05 * (clock.now - began)
    assert len(walked) % 4 == 0 and len(walked) >= 4 * 2000 // 70


def test_what_is_no_folder_or_leads_in_circles_does_no_harm(images: Path) -> None:
    for name in ("0", "1", "2", "3"):
        (images / "test" / "a" / f"{name}-loop").symlink_to(images)
        (images / "test" / "a" / f"{name}-broken.png").symlink_to(images / "nowhere")
    assert folder_state(images)[0] == 8
    assert folder_state(images / "nowhere") == (0, hash(frozenset()))


def test_images_behind_links_are_seen(images: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "test").symlink_to(images / "test")
    before = folder_state(tmp_path / "linked")
    assert before[0] == 4
    replace_in_place(images)
    assert folder_state(tmp_path / "linked") != before
