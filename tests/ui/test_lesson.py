"""Pure parts of the lesson: questions and charts."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.charts import theme
from merging.charts.lesson import Bar, answers_figure, apart, candidates_figure, enlarge, slopes_figure, weights_figure
from merging.charts.what_if import agreement_figure
from merging.runs.jobs.interference import Agreement
from tests.hover_texts import all_hover_texts
from ui.lesson import questions
from ui.lesson.shipping import DEMANDS, Candidate, ranked, winners

TASKS = ("<b>", "cats", "dogs")


@pytest.mark.parametrize(("moved", "right"), [(31, 0), (30, 1), (5, 1), (4.9, 2), (0, 2)])
def test_how_far(moved: float, right: int) -> None:
    assert questions.how_far("cats", moved, 100, ()).right == right


def test_every_answer_has_its_number_and_the_right_one_its_mark() -> None:
    figure = answers_figure(["<less>", "more", "the same"], [4, 0, 7], right=2)
    assert all_hover_texts(figure) == [["&lt;less&gt;: <b>4</b>", "more: <b>0</b>", "the same: <b>7</b>"]]
    names, numbers = figure.layout.annotations[:3], figure.layout.annotations[3:]
    assert [note.text for note in names] == ["<b>A</b>  &lt;less&gt;", "<b>B</b>  more", "✓ <b>C</b>  the same"]
    assert [note.y for note in names] == pytest.approx([-0.36, 0.64, 1.64])  # above their bars
    assert [(note.x, note.y, note.text) for note in numbers] == [
        *((4, 0, "<b>4</b>"), (0, 1, "<b>0</b>"), (7, 2, "<b>7</b>")),
    ]
    assert figure.data[0].marker.opacity == (0.4, 0.4, 1)
    assert answers_figure(["a", "b"], [1, 2]).data[0].marker.opacity == (1, 1)


@pytest.mark.parametrize(("mean", "right"), [(0.011, 0), (0.009, 1), (-0.009, 1), (-0.011, 2)])
def test_the_others(mean: float, right: int) -> None:
    found = questions.bystanders("cats", {"dogs": mean + 0.2, "cows": mean - 0.2})
    assert found.right == right and "dogs" in found.because and "cows" in found.because
    assert questions.bystanders("cats", None).right is None


@pytest.mark.parametrize(("summed", "right"), [(0.95, 0), (0.89, 0), (0.8, 1), (0.4, 1), (0.39, 2)])
def test_the_full_sum(summed: float, right: int) -> None:
    assert questions.all_in_full(8, summed, 0.4, 0.9, 2.8).right == right


@pytest.mark.parametrize(
    ("pearson", "chance", "right"), [(-0.5, 0.01, 0), (0.5, 0.05, 1), (0.9, 0.06, 2), (float("nan"), float("nan"), 2)]
)
def test_closeness(pearson: float, chance: float, right: int) -> None:
    found = questions.closer_loses_more(Agreement(pearson, pearson, chance, 12))
    assert found.right == right and "nan" not in found.because
    assert questions.closer_loses_more(None).right is None


def test_the_same_model_within_an_image() -> None:
    assert [questions.same_model(0.5, other, 0.01, 0.3).right for other in (0.5, 0.51, 0.49, 0.48, 0.52)] == [
        2,
        2,
        2,
        0,
        1,
    ]


@pytest.mark.parametrize("hundredths", range(1, 100))
def test_exactly_a_point_is_within_a_point(hundredths: int) -> None:
    """In floating point 0.71 − 0.70 is a little more than 0.01, and 0.85 − 0.84 a little less."""
    low, high = (hundredths - 1) / 100, hundredths / 100
    assert questions.more_orthogonal(low, high, (0.3, 0.2), 0.3).right == 1
    assert questions.more_orthogonal(high, low, (0.3, 0.2), 0.3).right == 1
    assert questions.bystanders("a", {"b": high - low}).right == 1
    assert questions.bystanders("a", {"b": low - high}).right == 1
    assert questions.all_in_full(3, low, 0.0, high, 2.0).right == 0


def test_a_sum_as_good_as_the_base_is_not_below_it() -> None:
    """The same images right in both, added up in another order."""
    summed, zero_shot = (0.1 + 0.7) / 2, (0.4 + 0.4) / 2
    assert summed < zero_shot
    assert questions.all_in_full(2, summed, zero_shot, 0.9, 2.0).right == 1


def test_models_that_do_equally_well_win_in_their_order() -> None:
    """0 and 0.15 have the mean of 0.05 and 0.1, which rounds to a little more."""
    first, second = candidate("first", 0.0, 0.15), candidate("second", 0.05, 0.1)
    assert first.value(()) < second.value(())
    assert [one.name for one in ranked([first, second], ())] == ["first", "second"]
    assert [one.name for one in ranked([second, first], ())] == ["second", "first"]


def candidate(name: str, accuracy: float, worst: float, **facts: object) -> Candidate:
    usual = {"size": 1.0, "single": True, "images": False, "labels": False, "seconds": 1.0}
    return Candidate(name, name, {"a": accuracy, "b": worst}, **usual | facts)  # type: ignore[arg-type]


def test_everything_that_wins_under_some_demands_is_offered() -> None:
    models = [
        candidate("own", 0.99, 0.9, single=False),
        candidate("slow", 0.95, 0.5, seconds=61.0),
        candidate("labels", 0.9, 0.2, labels=True, images=True),
        candidate("images", 0.8, 0.25, images=True),
        candidate("blind", 0.3, 0.24),
        candidate("never", 0.1, 0.1),
    ]
    assert winners(models) == ["own", "slow", "labels", "images", "blind"]
    assert [one.name for one in ranked(models, {DEMANDS[0], DEMANDS[3]})][:1] == ["labels"]


@given(st.lists(st.floats(0, 1), max_size=6), st.floats(0.01, 0.5))
def test_names_are_moved_apart_and_no_further_than_needed(values: list[float], gap: float) -> None:
    moved = apart(values, gap)
    order = sorted(range(len(values)), key=lambda index: values[index])
    assert all(moved[b] - moved[a] >= gap - 1e-9 for a, b in itertools.pairwise(order))
    assert all(after >= before for before, after in zip(values, moved, strict=True))
    if all(values[b] - values[a] >= gap for a, b in itertools.pairwise(order)):
        assert moved == values


def test_charts_are_large_and_escape_names() -> None:
    before = np.array([[1, 0.5, -0.2], [0.5, 1, 0.1], [-0.2, 0.1, 1]])
    change = np.full((3, 3), np.nan)
    change[0, 1] = change[2, 1] = -0.1
    figures = [
        weights_figure(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9)),
        slopes_figure(before, before / 2, TASKS),
        candidates_figure([Bar("<b>", "TIES", 50.0, "1 MB")], "Accuracy"),
        agreement_figure(before, change, TASKS, joining=1),
    ]
    enlarged = [enlarge(figure, dark=True) for figure in figures]
    for figure in enlarged:
        told = figure.to_json()
        assert figure.layout.font.size >= 18 and figure.layout.height is None
        assert "<b> ·" not in told and all(note.font.size >= 18 for note in figure.layout.annotations)
    assert "&lt;b&gt; ·<br>cats" in enlarged[1].layout.annotations[0].text
    assert "<b>&lt;b&gt;</b>" in enlarged[2].layout.annotations[0].text
    assert enlarged[2].layout.annotations[1].text == "<b>50.0</b>"
    assert len(enlarged[3].data[0].x) == 2  # what is measured
    assert enlarged[3].layout.annotations[0].text == "&lt;b&gt;"


def test_weights_lie_over_what_they_were_at_the_height_of_what_they_are() -> None:
    figure = weights_figure(np.array([0.1, -0.2, 0.3]), np.array([0.15, -0.25, 0.5]))
    assert all_hover_texts(figure) == [
        [
            "base 0.1000<br>fine-tuned 0.1500",
            "base −0.2000<br>fine-tuned −0.2500",
            "base 0.3000<br>fine-tuned 0.5000",
        ]
    ]
    assert figure.layout.xaxis.title.text == "a weight in the base model"
    assert figure.layout.yaxis.title.text == "after fine-tuning"
    (line,) = figure.layout.shapes
    assert (line.x0, line.x1) == (line.y0, line.y1) and line.x0 == -line.x1  # what did not move


def test_every_slope_runs_from_before_to_after_of_its_own_pair() -> None:
    before = np.array([[1, 0.5, -0.2, 0.05], [0.5, 1, 0.1, 0.3], [-0.2, 0.1, 1, 0.01], [0.05, 0.3, 0.01, 1]])
    after = np.array([[1, 0.45, -0.02, 0.04], [0.45, 1, 0.09, 0.2], [-0.02, 0.09, 1, 0], [0.04, 0.2, 0, 1]])
    figure = slopes_figure(before, after, ("a", "b", "c", "d"))
    drawn = {trace.hovertemplate.removesuffix("<br>%{y:.3f}<extra></extra>"): trace for trace in figure.data}
    assert {name: tuple(trace.y) for name, trace in drawn.items()} == {
        "a ·<br>b": (0.5, 0.45),
        "a ·<br>c": (-0.2, -0.02),
        "b ·<br>c": (0.1, 0.09),
        "a ·<br>d": (0.05, 0.04),
        "b ·<br>d": (0.3, 0.2),
        "c ·<br>d": (0.01, 0),
    }
    assert all(list(trace.x) == [0, 1] for trace in figure.data)
    assert list(figure.layout.xaxis.ticktext) == ["before", "after AWD"]
    assert {note.text: note.y for note in figure.layout.annotations} == {  # the closest before, at their ends after
        "a ·<br>b": 0.45,
        "b ·<br>d": 0.2,
        "a ·<br>c": -0.02,
    }
    bold = {name for name, trace in drawn.items() if trace.line.color == theme.REDUNDANT.color}
    assert bold == {note.text for note in figure.layout.annotations}


def test_every_candidate_has_its_own_bar_cost_and_number() -> None:
    bars = [Bar("Own", "Individual", 91.24, "8 MB"), Bar("<TA>", "Task Arithmetic", 63.5, "1 MB", out=True)]
    figure = candidates_figure(bars, "Worst task (%)")
    assert all_hover_texts(figure) == [["Own: <b>91.2</b><br>8 MB", "&lt;TA&gt;: <b>63.5</b><br>1 MB"]]
    (drawn,) = figure.data
    assert list(drawn.marker.color) == [theme.style_of(method).color for method in ("Individual", "Task Arithmetic")]
    assert drawn.marker.opacity[0] == 1 > drawn.marker.opacity[1]
    names, numbers = figure.layout.annotations[:2], figure.layout.annotations[2:]
    assert [note.text for note in names] == ["<b>Own</b>  8 MB", "<b>&lt;TA&gt;</b>  1 MB"]
    assert [note.text for note in numbers] == ["<b>91.2</b>", "<b>63.5</b>"]
    for row, (name, number) in enumerate(zip(names, numbers, strict=True)):
        assert drawn.y[row] == number.y == row and row - 1 < name.y < row
    assert figure.layout.yaxis.range[0] > 1 > 0 > figure.layout.yaxis.range[1]  # the first on top
    assert figure.layout.xaxis.title.text == "Worst task (%)"
