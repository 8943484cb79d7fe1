"""Differences of accuracy on the same images: against plain loops, complete enumeration, and what must always hold."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.evaluation.paired import (
    LEVEL,
    RESAMPLES,
    Comparison,
    TaskDifference,
    compare,
    comparison_in_words,
    confusion,
    holm,
    mcnemar,
    resampled,
)

answers = st.integers(1, 60).flatmap(
    lambda size: st.tuples(*[st.lists(st.booleans(), min_size=size, max_size=size).map(np.array)] * 2)
)


@pytest.mark.parametrize("tosses", range(9))
def test_mcnemar_is_the_share_of_coin_tosses_at_least_as_uneven(tosses: int) -> None:
    unevenness = [abs(2 * sum(coins) - tosses) for coins in itertools.product((0, 1), repeat=tosses)]
    for better in range(tosses + 1):
        seen = abs(2 * better - tosses)
        expected = sum(one >= seen for one in unevenness) / len(unevenness)
        assert mcnemar(better, tosses - better) == pytest.approx(expected, abs=1e-15)


def test_mcnemar_of_many_images_neither_overflows_nor_vanishes() -> None:
    assert mcnemar(30_000, 30_000) == 1.0
    assert 0 <= mcnemar(6_000, 3_000) < 1e-200
    normal = math.erfc(abs(5_100 - 4_900) / math.sqrt(2 * 10_000))
    assert mcnemar(5_100, 4_900) == pytest.approx(normal, rel=0.05)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_stepwise_procedure_rejects(values: list[float], level: float) -> None:
    rejected = set()
    for step, index in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        if values[index] * (len(values) - step) > level:
            break
        rejected.add(index)
    assert {index for index, p in enumerate(holm(values)) if p <= level} == rejected


def test_a_resample_is_distributed_as_drawing_images_one_by_one() -> None:
    """All 4⁴ ways to draw four images, of which one is better, two worse and one neither."""
    changes = (1, -1, -1, 0)
    exact = Counter(sum(draw) for draw in itertools.product(changes, repeat=4))
    drawn = Counter(np.rint(4 * resampled(1, 2, 4, "t")).astype(int).tolist())
    assert drawn.keys() <= exact.keys()
    for total, ways in exact.items():
        share = ways / 4**4
        assert abs(drawn[total] / RESAMPLES - share) < 5 * math.sqrt(share * (1 - share) / RESAMPLES)


def test_tasks_to_be_forgotten_are_tested_and_count_in_no_mean() -> None:
    random = np.random.default_rng(7)
    reference = {task: random.random(200) < 0.6 for task in "abc"}
    model = {task: random.random(200) < share for task, share in zip("abc", (0.8, 0.5, 0.05), strict=True)}
    (found,) = compare(reference, [model], forgotten={"c", "elsewhere"})
    change = {task: float(model[task].mean() - reference[task].mean()) for task in "abc"}
    assert {task: one.difference for task, one in found.tasks.items()} == pytest.approx(change)
    assert found.difference == pytest.approx((change["a"] + change["b"]) / 2)
    (two,) = compare({task: reference[task] for task in "ab"}, [{task: model[task] for task in "ab"}])
    assert (found.low, found.high) == (two.low, two.high)
    assert found.count("worse") == two.count("worse")
    assert comparison_in_words(found, "B", "A").endswith("without 1 task to be forgotten.")
    (none,) = compare(reference, [model], forgotten="abc")
    assert math.isnan(none.difference) and math.isnan(none.low)
    assert comparison_in_words(none, "B", "A") == (
        "B against A: there is no average, as all that is compared is 3 tasks to be forgotten."
    )


def test_the_interval_is_that_of_a_plain_paired_bootstrap() -> None:
    random = np.random.default_rng(5)
    reference, model = random.random(300) < 0.6, random.random(300) < 0.7
    (found,) = compare({"t": reference}, [{"t": model}])
    loop = []
    for _ in range(4000):
        drawn = random.integers(0, 300, 300)
        loop.append(model[drawn].mean() - reference[drawn].mean())
    expected = np.quantile(loop, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    assert [found.tasks["t"].low, found.tasks["t"].high] == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize("seed", [0, 7])
def test_intervals_leave_out_as_much_on_either_side_of_what_the_seed_draws(seed: int) -> None:
    random = np.random.default_rng(2)
    reference, model = ({task: random.random(2000) < share for task in "ab"} for share in (0.6, 0.7))
    (found,) = compare(reference, [model], seed)
    drawn = {task: resampled(one.better, one.worse, one.images, task, seed) for task, one in found.tasks.items()}
    for task, one in found.tasks.items():
        assert [one.low, one.high] == pytest.approx(np.quantile(drawn[task], [0.025, 0.975]))
    assert [found.low, found.high] == pytest.approx(np.quantile((drawn["a"] + drawn["b"]) / 2, [0.025, 0.975]))
    assert (compare(reference, [model])[0] == found) is (seed == 0)


def test_intervals_cover_the_true_difference_about_as_often_as_they_say() -> None:
    random, covered = np.random.default_rng(0), 0
    for trial in range(200):
        uniform = random.random(400)  # one draw an image decides both models, so that they agree on most images
        (found,) = compare({"t": uniform < 0.5}, [{"t": (uniform < 0.5) ^ (random.random(400) < 0.1)}], seed=trial)
        covered += found.low <= 0 <= found.high
    assert 0.9 <= covered / 200 <= 0.99


def test_the_same_seed_gives_the_same_numbers_and_another_gives_others() -> None:
    random = np.random.default_rng(1)
    reference, model = ({task: random.random(80) < 0.6 for task in "ab"} for _ in range(2))
    first, again = (compare(reference, [model], seed=3)[0] for _ in range(2))
    assert first == again
    assert not np.array_equal(resampled(8, 5, 80, "a", seed=3), resampled(8, 5, 80, "a", seed=4))
    assert not np.array_equal(resampled(8, 5, 80, "a"), resampled(8, 5, 80, "b"))
    assert np.array_equal(resampled(8, 5, 80, "a"), resampled(8, 5, 80, "a", seed=0))
    alone = compare({"a": reference["a"]}, [{"a": model["a"]}], 3)[0].tasks["a"]
    assert (alone.low, alone.high) == (first.tasks["a"].low, first.tasks["a"].high)  # whatever else is compared


@given(answers)
def test_a_model_does_not_differ_from_itself(pair: tuple[np.ndarray, np.ndarray]) -> None:
    right, _ = pair
    (found,) = compare({"t": right}, [{"t": right}])
    one = found.tasks["t"]
    assert (one.better, one.worse, one.difference, one.low, one.high, one.p, one.verdict) == (0, 0, 0, 0, 0, 1, "same")
    assert (found.difference, found.low, found.high) == (0, 0, 0)


@given(answers)
def test_differences_are_those_of_the_accuracies_and_turn_with_the_roles(pair: tuple[np.ndarray, np.ndarray]) -> None:
    reference, model = pair
    (there,), (back,) = compare({"t": reference}, [{"t": model}]), compare({"t": model}, [{"t": reference}])
    one, turned = there.tasks["t"], back.tasks["t"]
    assert one.difference == pytest.approx(model.mean() - reference.mean())
    assert (one.reference, one.accuracy) == (reference.mean(), model.mean())
    assert (one.better, one.worse, one.p) == (turned.worse, turned.better, turned.p)
    assert -1 <= one.low <= one.high <= 1


def test_the_mean_over_tasks_counts_tasks_and_not_images() -> None:
    reference = {"small": np.zeros(10, bool), "large": np.zeros(1000, bool)}
    (found,) = compare(reference, [{"small": np.ones(10, bool), "large": np.zeros(1000, bool)}])
    assert (found.difference, found.low, found.high) == (0.5, 0.5, 0.5)


def test_the_correction_is_over_all_tests() -> None:
    reference = {task: np.zeros(6, bool) for task in "ab"}
    model = {"a": np.ones(6, bool), "b": np.zeros(6, bool)}
    (one,), both = compare(reference, [model]), compare(reference, [model, model])
    assert (one.tasks["a"].p, one.tasks["a"].adjusted) == (2 / 64, 4 / 64)
    assert both[1].tasks["a"].adjusted == 8 / 64
    assert one.tasks["a"].verdict == "same"
    expected = "B against A: no difference that these images show on 2 tasks; on average +50.0 points"
    assert comparison_in_words(one, "B", "A").startswith(expected)


def test_no_corrected_value_is_above_one() -> None:
    assert holm([0.6, 0.9, 0.4]) == [1, 1, 1]
    assert holm([0.3, 0.5]) == [0.6, 0.6]  # never falling
    assert holm([]) == []


BETTER, WORSE, SAME = (
    TaskDifference(10, 0.5, 0.5 + change, *counts, change - 0.1, change + 0.2, 0.004, adjusted)
    for change, counts, adjusted in ((0.2, (3, 1), 0.01), (-0.3, (1, 4), 0.01), (0.1, (2, 1), 0.9))
)


@pytest.mark.parametrize(
    ("tasks", "forgotten", "said"),
    [
        ([BETTER], 0, "better on 1 task; on average +20.0 points (−5.0 to +5.0)."),
        ([WORSE], 0, "worse on 1 task; on average −30.0 points (−5.0 to +5.0)."),
        ([SAME, SAME], 0, "no difference that these images show on 2 tasks; on average +10.0 points (−5.0 to +5.0)."),
        (
            [BETTER, WORSE, SAME, WORSE],
            0,
            "better on 1 task, worse on 2, no difference that these images show on 1; on average −7.5 points "
            "(−5.0 to +5.0).",
        ),
        (
            [WORSE, WORSE, BETTER],
            1,
            "worse on 2 tasks; on average −30.0 points (−5.0 to +5.0), without 1 task to be forgotten.",
        ),
        (
            [WORSE, BETTER, BETTER],
            2,
            "worse on 1 task; on average −30.0 points (−5.0 to +5.0), without 2 tasks to be forgotten.",
        ),
    ],
)
def test_a_comparison_is_told_in_one_sentence(tasks: list[TaskDifference], forgotten: int, said: str) -> None:
    named = {str(number): one for number, one in enumerate(tasks)}
    apart = frozenset(list(named)[len(tasks) - forgotten :]) if forgotten else frozenset[str]()
    assert comparison_in_words(Comparison(named, -0.05, 0.05, apart), "B", "A") == f"B against A: {said}"


def test_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="images"):
        compare({"t": np.zeros(3, bool)}, [{"t": np.zeros(4, bool)}])
    with pytest.raises(ValueError, match="images"):
        compare({"t": np.zeros(3, bool)}, [{"u": np.zeros(3, bool)}])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_confusion_counts_pairs(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = np.array(pairs).T
    table = confusion(labels, predicted, 4)
    for i, j in itertools.product(range(4), repeat=2):
        assert table[i, j] == pairs.count((i, j))
