"""Charts of unseen tasks and corrupted images, by their data."""

import numpy as np
import pytest

from merging.charts.beyond import (
    robustness_figure,
    robustness_table,
    robustness_takeaway,
    seen_unseen_figure,
    seen_unseen_table,
    seen_unseen_takeaway,
    severity_figure,
)
from merging.charts.theme import style_of
from merging.runs.beyond import Generalisation, Robustness
from tests.hover_texts import all_hover_texts, hover_texts

BASE = Generalisation("zero_shot", "Zero-shot", [0.5, 0.4], [0.4, 0.5], [])
ROWS = [
    Generalisation("task_arithmetic", "Task Arithmetic", [0.7, 0.6], [0.5, 0.6], []),
    Generalisation("tsv_m", "TSV-M", [0.8, 0.9], [0.3, 0.5], []),
]
NAMES = ("gaussian_noise", "contrast")


def row(name: str, title: str, clean: float, *shifted: float) -> Robustness:
    """Two tasks, and the means of noise and contrast at severity 1, then at 3."""
    texts = [f"{corruption}:{level}" for level in (1, 3) for corruption in NAMES]
    method = title.removesuffix(" (on clean)")
    tasks = {text: {"a": value - 0.1, "b": value + 0.1} for text, value in zip(texts, shifted, strict=True)}
    return Robustness(name, title, method, {"a": clean - 0.1, "b": clean + 0.1}, tasks)


ROBUST = [
    row("task_arithmetic", "Task Arithmetic", 0.7, 0.65, 0.6, 0.5, 0.4),
    row("adamerging", "AdaMerging", 0.8, 0.75, 0.7, 0.6, 0.5),
    row("adamerging_on_clean", "AdaMerging (on clean)", 0.8, 0.7, 0.7, 0.5, 0.2),
]


def test_a_marker_a_method_with_its_spread_and_lines_for_zero_shot() -> None:
    figure = seen_unseen_figure(ROWS, BASE)
    points = {trace.name: (trace.x[0], trace.y[0]) for trace in figure.data}
    assert points == {"Task Arithmetic": pytest.approx((65, 55)), "TSV-M": pytest.approx((85, 40))}
    for trace, of in zip(figure.data, ROWS, strict=True):
        assert trace.error_x.array[0] == pytest.approx(100 * np.std(of.seen, ddof=1))
        assert trace.error_y.array[0] == pytest.approx(100 * np.std(of.unseen, ddof=1))
        assert trace.marker.symbol == style_of(of.title).symbol
    vertical, horizontal = figure.layout.shapes
    assert (vertical.x0, vertical.x1, horizontal.y0, horizontal.y1) == pytest.approx((45, 45, 45, 45))
    one = [Generalisation("tsv_m", "TSV-M", [0.8], [0.3], [])]
    assert (
        seen_unseen_figure(one, Generalisation("zero_shot", "Zero-shot", [0.5], [0.4], [])).data[0].error_x.array
        is None
    )


def test_the_table_of_unseen_tasks_has_means_and_gains() -> None:
    table = seen_unseen_table(ROWS, BASE).set_index("Method")
    assert table.loc["TSV-M", ["Seen (%)", "Seen vs zero-shot", "Unseen (%)", "Unseen vs zero-shot"]].tolist() == [
        *(85.0, 40.0, 40.0, -5.0)
    ]
    paired = [f"± {part} vs zero-shot" for part in ("seen", "unseen")]
    assert table.loc["TSV-M", paired].tolist() == [14.1, 7.1]  # of gains of 30 and 50, of −10 and 0 points
    assert np.isnan(table.loc["Zero-shot", ["Seen vs zero-shot", *paired]].astype(float)).all()


def test_what_unseen_tasks_show_is_said_from_the_numbers() -> None:
    said = seen_unseen_takeaway(ROWS, BASE)
    assert said.startswith(
        "TSV-M is best on seen tasks, Task Arithmetic on unseen ones: 85.0 % seen, and 55.0 % unseen"
    )
    assert "+10.0 points against zero-shot, over 2 splits; below zero-shot on unseen tasks: TSV-M." in said
    assert "no method falls below" in seen_unseen_takeaway(ROWS[:1] * 2, BASE)
    assert "all methods fall below zero-shot" in seen_unseen_takeaway(ROWS[1:] * 2, BASE)
    assert seen_unseen_takeaway(ROWS[1:] * 2, BASE).startswith("TSV-M is best on seen and on unseen tasks")


def test_one_method_alone_is_not_called_the_best() -> None:
    assert seen_unseen_takeaway(ROWS[1:], BASE) == (
        "TSV-M: 85.0 % seen, and 40.0 % unseen, −5.0 points against zero-shot, over 2 splits; it falls below zero-shot "
        "on unseen tasks."
    )
    assert "; it does not fall below zero-shot on unseen tasks." in seen_unseen_takeaway(ROWS[:1], BASE)
    said = robustness_takeaway(ROBUST[1:], NAMES, 3)  # as published, and adapted on clean images
    assert said.startswith("At severity 3 AdaMerging reaches 55.0 % over the corruptions (80.0 % clean). Contrast")
    assert "best" not in said and "is worth +20.0 points over clean ones" in said


@pytest.mark.parametrize(("unseen", "said"), [([0.3, 0.4, 0.35], False), ([0.3, 0.6, 0.35], True)])
def test_a_mean_below_zero_shot_that_may_be_chance_is_said_to_be(unseen: list[float], said: bool) -> None:
    base = Generalisation("zero_shot", "Zero-shot", [0.5] * 3, [0.4, 0.5, 0.45], [])
    takeaway = seen_unseen_takeaway([Generalisation("tsv_m", "TSV-M", [0.8] * 3, unseen, [])] * 2, base)
    assert "all methods fall below zero-shot" in takeaway
    assert ("none by more than twice its standard error over the splits" in takeaway) == said


def test_the_heat_map_has_means_as_numbers_and_losses_as_colours() -> None:
    figure = robustness_figure(ROBUST, NAMES, 3)
    (heat,) = figure.data
    assert heat.textfont.size >= 9  # of its own accord plotly.js fits text with markup into cells at 2 px
    np.testing.assert_allclose(np.array(heat.z)[1], [0, -20, -30, -25], atol=1e-9)
    assert [">80.0<" in heat.text[1][0], ">60.0<" in heat.text[1][1], ">55.0<" in heat.text[1][3]] == [True] * 3
    assert figure.layout.xaxis.ticktext == ("Clean", "Gaussian noise", "Contrast", "Mean corrupted")
    assert figure.layout.coloraxis.cmax == -figure.layout.coloraxis.cmin == pytest.approx(60)
    titles, columns = ["Task Arithmetic", "AdaMerging", "AdaMerging (on clean)"], figure.layout.xaxis.ticktext
    values = [[70, 50, 40, 45], [80, 60, 50, 55], [80, 50, 20, 35]]
    assert all_hover_texts(figure) == [
        [
            f"{title}, {column}: <b>{value:.1f}</b> %<br>{value - line[0]:+.1f} points against clean".replace("-", "−")
            for title, line in zip(titles, values, strict=True)
            for column, value in zip(columns, line, strict=True)
        ]
    ]
    assert figure.layout.yaxis.ticktext == tuple(titles) and figure.layout.yaxis.autorange == "reversed"


def test_on_a_narrow_screen_methods_stand_beside_each_other_without_numbers_if_many() -> None:
    wide, narrow = robustness_figure(ROBUST, NAMES, 3), robustness_figure(ROBUST, NAMES, 3, narrow=True)
    assert narrow.layout.xaxis.ticktext == wide.layout.yaxis.ticktext
    assert narrow.layout.yaxis.ticktext == wide.layout.xaxis.ticktext and narrow.layout.yaxis.autorange == "reversed"
    (heat,), (turned,) = wide.data, narrow.data
    for name in ("z", "text", "customdata"):
        assert np.array(turned[name]).tolist() == np.array(heat[name]).T.tolist()
    assert turned.texttemplate == "%{text}"
    many = [row(str(n), f"m{n}", 0.5, 0.4, 0.4, 0.3, 0.3) for n in range(8)]
    assert not robustness_figure(many, NAMES, 3, narrow=True).data[0].texttemplate
    assert robustness_figure(many, NAMES, 3).data[0].texttemplate


def test_the_table_of_corruptions_has_a_row_a_severity() -> None:
    table = robustness_table(ROBUST, NAMES, [1, 3]).set_index(["Method", "Severity"])
    assert table.loc[("AdaMerging", 3)].tolist() == [80.0, 60.0, 50.0, 55.0, 68.8]
    assert len(table) == 6


def test_what_corruptions_show_is_said_from_the_numbers() -> None:
    said = robustness_takeaway(ROBUST, NAMES, 3)
    assert "At severity 3 AdaMerging is best with 55.0 % over the corruptions (80.0 % clean)" in said
    assert "AdaMerging keeps most of its clean accuracy, 69 %" in said
    assert "Contrast costs most, −40.0 points on average." in said
    assert "Adapting AdaMerging on the corrupted images is worth +20.0 points over clean ones." in said
    assert "Adapting" not in robustness_takeaway(ROBUST[:1], NAMES, 3)


def test_lines_over_severity_begin_at_clean_and_no_two_are_alike() -> None:
    figure = severity_figure(ROBUST, NAMES, [1, 3])
    assert [list(trace.x) for trace in figure.data] == [[0, 1, 3]] * 3
    for trace, title, values in zip(
        figure.data,
        ["Task Arithmetic", "AdaMerging", "AdaMerging (on clean)"],
        [[70, 62.5, 45], [80, 72.5, 55], [80, 70, 35]],
        strict=True,
    ):
        assert trace.name == title and list(trace.y) == pytest.approx(values)
        assert all(f"[{title}]" in text for text in hover_texts(trace))
    looks = {(trace.line.color, trace.line.dash, trace.marker.symbol) for trace in figure.data}
    assert len(looks) == 3 and figure.data[1].line.color == figure.data[2].line.color


def test_what_is_not_measured_is_a_gap_and_means_are_of_what_all_have() -> None:
    half = Robustness("tsv_m", "TSV-M", "TSV-M", {"a": 0.9}, {"contrast:3": {"a": 0.6}})
    figure = robustness_figure([ROBUST[0], half], NAMES, 3)
    assert list(figure.data[0].z[1]) == [0, None, -30, -30] and figure.data[0].text[1][1] == ""
    assert figure.layout.xaxis.ticktext[-1] == "Mean of 1"
    table = robustness_table([ROBUST[0], half], NAMES, [3]).set_index("Method")
    assert np.isnan(table.loc["TSV-M", "Gaussian noise (%)"]) and table["Mean of 1 (%)"].tolist() == [40, 60]
    said = robustness_takeaway([ROBUST[0], half], NAMES, 3)
    assert said.startswith("At severity 3 TSV-M is best with 60.0 % over Contrast (90.0 % clean)")
    assert "costs most" not in said
    none = robustness_takeaway([ROBUST[0], half], NAMES, 1)
    assert none == "At severity 1 no corruption is measured for all of these methods yet."
    bare = robustness_figure([half], ["gaussian_noise"], 1)
    assert list(bare.data[0].z[0]) == [0, None, None]
