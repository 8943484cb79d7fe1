"""Published numbers beyond clean images: that they are of one piece, and for whom they are."""

import pytest

from merging.suites import load_suite
from merging.suites.images.corruptions import CORRUPTIONS
from merging.suites.protocols import CORRUPTED, CORRUPTED_COLUMNS, SPLITS, has_published_protocols, published_split

TASKS = set(load_suite("fusion_bench-ViT-B-32").usual_tasks)


@pytest.mark.parametrize("name", SPLITS)
def test_splits_part_the_eight_tasks_and_their_means_are_those_of_the_tasks(name: str) -> None:
    split = SPLITS[name]
    assert {*split.seen, *split.unseen} == TASKS and len(split.seen) + len(split.unseen) == len(TASKS)
    for seen, *unseen, mean in split.rows.values():
        assert abs(sum(unseen) / len(unseen) - mean) < 0.11 and seen > 0  # printed with one digit each


def test_corruptions_are_those_that_are_made_here() -> None:
    assert list(CORRUPTED_COLUMNS) == ["clean", *CORRUPTIONS]
    assert {len(row) for row in CORRUPTED.values()} == {len(CORRUPTED_COLUMNS)}


@pytest.mark.parametrize(
    ("suite", "applies"),
    [
        ("fusion_bench-ViT-B-32", True),
        ("fusion_bench-ViT-L-14", False),
        ("task_arithmetic-ViT-B-32", False),
        ("mini", False),
    ],
)
def test_they_stand_beside_the_checkpoints_that_they_are_about_alone(suite: str, applies: bool) -> None:
    loaded = load_suite(suite)
    assert has_published_protocols(loaded) == applies
    assert (published_split(loaded, "exp1") is SPLITS["exp1"]) == applies
    assert published_split(loaded, "exp3") is None
