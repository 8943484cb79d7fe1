"""The cache of prepared images: what is kept, what goes first when room is short, what a failure leaves."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from merging.core.errors import CheckpointError, SuiteError
from merging.suites.images.cache import Notes, prepared
from merging.suites.images.decoding import Picture

SIZE = 4


def images(seed: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def keep(folder: Path, seed: int, limit: int = 10**9, count: int = 3) -> np.ndarray:
    return prepared(pictures(seed, count), count, SIZE, folder / f"{seed}.npy", limit)[0]


def pictures(seed: int, count: int = 3) -> Iterator[Picture]:
    return map(Picture, images(seed, count))


def never() -> Iterator[Picture]:
    raise AssertionError("decoded again")
    yield


def test_what_is_stored_is_mapped_and_not_made_again(tmp_path: Path) -> None:
    first = keep(tmp_path, 0)
    again, notes = prepared(never(), 3, SIZE, tmp_path / "0.npy")
    assert np.array_equal(first, images(0)) and np.array_equal(again, images(0))
    assert isinstance(again, np.memmap) and notes == Notes()
    assert np.array_equal(prepared(pictures(0), 3, SIZE, None)[0], images(0))


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    for seed in range(4):
        keep(tmp_path, seed)
        os.utime(tmp_path / f"{seed}.npy", (100 + seed, 100))
    used = keep(tmp_path, 0)  # the oldest, but used just now
    one = (tmp_path / "0.npy").stat().st_size
    kept = keep(tmp_path, 9, limit=3 * one)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.npy", "3.npy", "9.npy"]
    keep(tmp_path, 9, limit=0)
    assert [path.name for path in tmp_path.iterdir()] == ["9.npy"]  # one set alone may be larger than the limit
    assert np.array_equal(used, images(0)) and np.array_equal(kept, images(9))  # whoever has it mapped keeps it


def test_nothing_but_prepared_images_is_removed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"x" * 1000)
    (tmp_path / ".5.npy.123.tmp").write_bytes(b"x" * 1000)  # another process at work
    keep(tmp_path, 0, limit=0)
    keep(tmp_path, 1, limit=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".5.npy.123.tmp", "1.npy", "notes.txt"]


@pytest.mark.parametrize("error", [SuiteError("a broken image"), OSError(28, "No space left on device")])
def test_a_failure_leaves_nothing_half_written(tmp_path: Path, error: Exception) -> None:
    def failing() -> Iterator[Picture]:
        yield from pictures(0, 2)
        raise error

    with pytest.raises((SuiteError, CheckpointError), match=r"broken image|No space left"):
        prepared(failing(), 3, SIZE, tmp_path / "0.npy")
    assert list(tmp_path.iterdir()) == []
    assert np.array_equal(keep(tmp_path, 0), images(0))


def test_an_entry_of_another_shape_is_replaced(tmp_path: Path) -> None:
    keep(tmp_path, 0, count=2)
    assert np.array_equal(keep(tmp_path, 0), images(0))


def test_what_was_seen_while_decoding_is_kept_with_the_pixels(tmp_path: Path) -> None:
    def odd() -> Iterator[Picture]:
        for row, pixels in enumerate(images(0, 12)):
            yield Picture(None, f"{row}: broken") if row in (1, 10) else Picture(pixels, "16 bits" if row > 5 else "")

    kept = np.delete(images(0, 12), [1, 10], axis=0)
    for given, entry in ((odd(), None), (odd(), tmp_path / "0.npy"), (never(), tmp_path / "0.npy")):
        pixels, notes = prepared(given, 12, SIZE, entry)
        assert np.array_equal(pixels, kept)
        assert notes == Notes([1, 10], ["1: broken", "10: broken"], {"16 bits": 5})


def test_an_entry_of_an_earlier_version_is_made_again(tmp_path: Path) -> None:
    """Images of 16 bits are white in it."""
    np.save(tmp_path / "0.npy", np.full((3, SIZE, SIZE, 3), 255, np.uint8))
    assert np.array_equal(keep(tmp_path, 0), images(0))
