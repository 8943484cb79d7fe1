"""The page Leaderboard: every state of its own table, and published tables beside it and never in it."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from streamlit.testing.v1 import AppTest

from merging.methods.presets import PRESETS
from merging.runs import Run
from merging.runs.jobs import MergeSpec
from merging.runs.leaderboard import ONE_A_TASK, cheapest_first, data_looked_at, spec_of, two_settings
from merging.suites import Suite, load_suite
from merging.suites.reported import reported_tables
from tests.app.conftest import build_suite, links, texts
from tests.app.finished_runs import ended, finished
from ui.shell import state

Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished runs of these tests are runs on the CPU, whatever the machine has."""
    monkeypatch.setattr("merging.core.devices.torch.cuda.is_available", lambda: False)


def fields(name: str) -> dict[str, object]:
    """What the leaderboard runs for a preset, as changes to a specification."""
    spec = spec_of(PRESETS[name], "", ("any",), "cpu")
    return spec.model_dump(include={"edit", "edit_params", "merge", "merge_params"})


def done(suite: Suite, name: str, level: float = 0.6) -> Run:
    return finished(state.workspace(), suite, level, **fields(name))


def table(app: AppTest) -> pd.DataFrame:
    """The leaderboard itself, methods as index."""
    assert not app.exception
    return app.dataframe[0].value.set_index("Method")


def button(app: AppTest, label: str) -> object:
    return next(one for one in app.button if one.label == label)


def runs() -> list[Run]:
    return list(reversed(state.workspace().store.all()))  # oldest first


def test_before_anything_ran_all_methods_stand_as_not_run(standing: Suite, look: Open) -> None:
    app = look("leaderboard")
    found = table(app)
    presets = [preset for preset in cheapest_first(PRESETS.values()) if not preset.pair.localised]
    methods = [preset.title + " (own)" * preset.ours for preset in presets]
    assert ONE_A_TASK in texts(app) and list(app.dataframe[1].value["Method"]) == [
        PRESETS["emr"].title,
        PRESETS["tall_masks"].title,
    ]
    assert set(found.index[:2]) == {"Zero-shot", "Individual"} and list(found.index[2:]) == methods
    assert found.loc[methods, "Average (%)"].isna().all()
    assert {state_[0] for state_ in found.loc[methods, "State"]} == {"not run"}
    assert two_settings() in texts(app)
    assert "Run all" in [one.label for one in app.button]
    assert runs() == [] and not app.get("plotly_chart")


def test_one_press_queues_everything_cheap_and_data_free_first(
    tiny: Suite, open_page: Open, launched_workers: list[Path]
) -> None:
    app = open_page("leaderboard")
    button(app, "Run all").click().run()  # type: ignore[attr-defined]
    reference = state.suite_reference()
    expected = [spec_of(preset, reference, tiny.task_names, "cpu") for preset in cheapest_first(PRESETS.values())]
    assert [run.spec for run in runs()] == expected and launched_workers
    labels = [one.label for one in app.button]
    assert labels.count("Cancel") == 2 and "Run all" not in labels
    assert f"{len(PRESETS) - 2} more wait" in texts(app)
    assert {state_[0] for state_ in table(app)["State"] if len(state_)} == {"under way"}
    button(app, "Cancel all waiting").click().run()  # type: ignore[attr-defined]
    assert {run.state for run in runs()} == {"cancelled"}
    assert "Run all" in [one.label for one in app.button]


def test_finished_runs_fill_their_rows(tiny: Suite, open_page: Open) -> None:
    best, other = done(tiny, "tsv_m", 0.8), done(tiny, "adamerging", 0.7)
    found = table(open_page("leaderboard"))
    assert list(found.index[found["Average (%)"].notna()]) == list(
        found["Average (%)"].dropna().sort_values(ascending=False).index
    )
    for run, preset in ((best, PRESETS["tsv_m"]), (other, PRESETS["adamerging"])):
        row = found.loc[preset.title]
        assert run.result is not None
        accuracy = run.result.accuracy
        assert row[list(tiny.task_names)].tolist() == [round(100 * accuracy[task], 1) for task in tiny.task_names]
        assert row["Average (%)"] == round(100 * run.result.average, 1)
        assert (row["Data"], row["Seconds"], row["Paper"]) == (data_looked_at(preset).needs, 2.3, preset.paper)
        assert row["Run"] == f"runs?run={run.id}"


def test_runs_of_the_command_line_are_found(tiny: Suite, open_page: Open) -> None:
    """Those name the suite by another path."""
    spec = spec_of(PRESETS["iso_c"], str(tiny.folder), tiny.task_names, "cpu")
    state.workspace().submit(MergeSpec.build(**spec.model_dump()))
    assert table(open_page("leaderboard")).loc["Iso-C", "State"] == ["under way"]


def test_the_chart_and_its_sentence_come_with_the_first_result(tiny: Suite, open_page: Open) -> None:
    run = done(tiny, "iso_c", 0.8)
    app = open_page("leaderboard")
    assert len(app.get("plotly_chart")) == 1
    assert run.result is not None
    assert f"Iso-C (no data) with {100 * run.result.average:.1f} %" in texts(app)
    assert "test split" in texts(app)
    assert links(app)["Compare the best task by task"]["runs"] == [run.id]


def test_a_failed_method_shows_its_reason_and_can_be_run_again(tiny: Suite, open_page: Open) -> None:
    ended(state.workspace(), tiny, "failed", "out of luck", **fields("wudi"))
    app = open_page("leaderboard")
    assert "out of luck" in texts(app) and "WUDI" in texts(app)
    assert table(app).loc["WUDI", "State"] == ["failed"]
    button(app, "Run again").click().run()  # type: ignore[attr-defined]
    assert [run.state for run in runs()] == ["failed", "queued"]


def test_methods_that_someone_cancelled_need_no_attention_but_are_offered(tiny: Suite, open_page: Open) -> None:
    ended(state.workspace(), tiny, "cancelled", "", **fields("wudi"))
    app = open_page("leaderboard")
    assert "Run again" not in [one.label for one in app.button]
    assert f"{len(PRESETS)} of {len(PRESETS)} methods have no result yet" in texts(app)


def test_only_the_kinds_of_data_chosen_are_shown_and_run(tiny: Suite, open_page: Open) -> None:
    app = open_page("leaderboard", data=["Unlabeled images"])
    wanted = [preset for preset in PRESETS.values() if data_looked_at(preset).needs == "unlabeled"]
    assert set(table(app).index) == {"Zero-shot", "Individual", *(preset.title for preset in wanted)}
    button(app, "Run all").click().run()  # type: ignore[attr-defined]
    assert len(runs()) == len(wanted)
    app.button_group(key="data").set_value([]).run()
    assert "Choose at least one" in texts(app)


def test_when_all_is_done_nothing_is_offered(tiny: Suite, open_page: Open) -> None:
    for number, name in enumerate(PRESETS):
        done(tiny, name, 0.4 + 0.02 * number)
    app = open_page("leaderboard")
    found = table(app)
    assert "State" not in found.columns and found["Average (%)"].notna().all()
    assert not [one for one in app.button if one.label.startswith("Run")]


def test_other_tasks_have_a_leaderboard_of_their_own(tiny: Suite, open_page: Open) -> None:
    done(tiny, "iso_c")
    found = table(open_page("leaderboard", tasks=["apples", "cars"]))
    assert found.loc["Iso-C", "State"] == ["not run"]
    assert {"apples", "cars"} <= set(found.columns) and "birds" not in found.columns


def test_without_images_it_says_what_to_do(suites_folder: Path, open_page: Open) -> None:
    build_suite(suites_folder / "bare", images=False)
    app = open_page("leaderboard")
    assert not app.exception
    assert "Add `data` and `head` to suite.yaml" in texts(app)
    assert not [one for one in app.button if one.label.startswith("Run")]


# --- published results -------------------------------------------------------------------------------------------


def clip_suite(folder: Path, name: str = "clip", **fields: object) -> None:
    """A suite without images that says to be of a published architecture."""
    path = build_suite(folder / name, images=False)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"architecture": "ViT-B-32", **fields}))


def published_rows(family: str, architecture: str) -> list[list[tuple[str, float]]]:
    """Method and average of every table, in their order, that of the fewest tasks first."""
    return [
        [(row.method, round(100 * row.average, 1)) for row in one.ranked()]
        for one in reported_tables().select(family, architecture)
    ]


def shown_rows(app: AppTest) -> list[list[tuple[str, float]]]:
    published_ones = [each.value for each in app.dataframe if "SUN397" in each.value]
    return [list(zip(shown["Method"], shown["Average (%)"], strict=True)) for shown in published_ones]


@pytest.mark.parametrize("family", ["task_arithmetic", "fusion_bench"])
def test_a_declared_family_gets_its_own_table_and_no_question(
    family: str, suites_folder: Path, open_page: Open
) -> None:
    clip_suite(suites_folder, checkpoints=family)
    app = open_page("leaderboard")
    assert not app.exception and shown_rows(app) == published_rows(family, "ViT-B-32")
    assert reported_tables().select(family, "ViT-B-32")[0].source in texts(app).replace("\\_", "_")
    assert not app.button_group
    sizes = {"task_arithmetic": "8", "fusion_bench": "8 and for 20"}[family]
    assert f"Published for {sizes} tasks; 4 are chosen here" in texts(app)


def test_without_a_declared_family_the_page_asks(suites_folder: Path, open_page: Open) -> None:
    clip_suite(suites_folder, architecture="ViT-B-32-quickgelu")
    app = open_page("leaderboard")
    assert not app.exception and not app.dataframe
    assert "Which are these?" in texts(app) and "no number of one can be compared" in texts(app)
    app.button_group(key="checkpoints.clip").set_value("fusion_bench").run()
    assert shown_rows(app) == published_rows("fusion_bench", "ViT-B-32")


def test_the_answer_for_one_suite_is_none_for_another(suites_folder: Path, open_page: Open) -> None:
    clip_suite(suites_folder)
    clip_suite(suites_folder, "other")
    app = open_page("leaderboard", suite="clip")
    app.button_group(key="checkpoints.clip").set_value("fusion_bench").run()
    app.selectbox(key="suite").set_value("other").run()
    assert not app.dataframe and "Which are these?" in texts(app)


def test_a_family_without_a_table_of_that_architecture_says_so(suites_folder: Path, open_page: Open) -> None:
    clip_suite(suites_folder, architecture="ViT-B-16", checkpoints="task_arithmetic")
    app = open_page("leaderboard")
    assert not app.exception and not app.dataframe
    assert "No table is published for ViT-B-16 and the Task Arithmetic checkpoints" in texts(app)


def test_other_suites_have_published_results_for_orientation_only(standing: Suite, look: Open) -> None:
    app = look("leaderboard")
    assert "There are no published numbers for Tiny suite" in texts(app)
    assert "Published results for CLIP" in [one.label for one in app.expander]
    app.button_group(key="checkpoints").set_value("fusion_bench").run()
    app.button_group(key="architecture.fusion_bench").set_value("ViT-L-14").run()
    assert not app.exception
    assert shown_rows(app) == published_rows("fusion_bench", "ViT-L-14")


def test_tasks_may_be_called_as_columns_are(suites_folder: Path, open_page: Open) -> None:
    names = ("Mark", "Method", "Run", "Average (%)")
    suite = load_suite(build_suite(suites_folder / "odd", tasks=names))
    done(suite, "iso_c")
    assert {f"{name} (task)" for name in names} <= set(table(open_page("leaderboard")).columns)


def test_published_methods_never_stand_in_the_suites_own_table(standing: Suite, look: Open) -> None:
    app = look("leaderboard")
    names = {*table(app).index, *app.dataframe[1].value["Method"]}
    titles = {preset.title + " (own)" * preset.ours for preset in PRESETS.values()}
    assert names == {"Zero-shot", "Individual", *titles}
