"""Changes below a folder are noticed, and walks through it are rare."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ui.shell import folder_watch
from ui.shell.folder_watch import FolderWatch


class Clock:
    """Seconds that pass only when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two splits of two classes of two images each."""
    for place in ("val/a", "val/b", "test/a", "test/b"):
        (tmp_path / "images" / place).mkdir(parents=True)
        for name in ("1.png", "2.png"):
            (tmp_path / "images" / place / name).write_bytes(b"pixels")
    return tmp_path / "images"


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
def test_every_change_is_noticed_after_a_pause(change: Callable[[Path], None], images: Path) -> None:
    clock = Clock()
    watch = FolderWatch(clock)
    before = watch.stamp(images)
    assert before[0] == 8
    change(images)
    clock.now += 2.9
    assert watch.stamp(images) == before
    clock.now += 0.2
    assert watch.stamp(images) != before


def test_without_a_change_the_stamp_stays(images: Path) -> None:
    clock = Clock()
    watch = FolderWatch(clock)
    before = watch.stamp(images)
    clock.now += 1000
    assert watch.stamp(images) == before


def test_walks_take_a_twentieth_of_the_time_whatever_the_number_of_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    walked = []

    def slow_walk(folder: Path, depth: int) -> list[tuple[str, int, int]]:
        clock.now += 2.0
        walked.append(folder)
        return []

    monkeypatch.setattr(folder_watch, "_files", slow_walk)
    watch = FolderWatch(clock)
    folders = [tmp_path / str(index) for index in range(4)]
    for _ in range(2000):
        for folder in folders:
            watch.stamp(folder)
        clock.now += 1.0
    assert 2.0 * len(walked) <= 0.06 * clock.now
    assert {walked.count(folder) for folder in folders} <= {len(walked) // 4, len(walked) // 4 + 1}


def test_what_is_no_folder_or_leads_in_circles_does_no_harm(images: Path) -> None:
    for name in ("0", "1", "2", "3"):
        (images / "test" / "a" / f"{name}-loop").symlink_to(images)
        (images / "test" / "a" / f"{name}-broken.png").symlink_to(images / "nowhere")
    assert FolderWatch().stamp(images)[0] == 8
    assert FolderWatch().stamp(images / "nowhere") == (0, hash(frozenset()))


def test_images_behind_links_are_seen(images: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "test").symlink_to(images / "test")
    clock = Clock()
    watch = FolderWatch(clock)
    before = watch.stamp(tmp_path / "linked")
    assert before[0] == 4
    replace_in_place(images)
    clock.now += 10
    assert watch.stamp(tmp_path / "linked") != before
