"""The page Learn: every step shows, and its answers are those that numbers computed otherwise give."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from streamlit.testing.v1 import AppTest

from merging.evaluation.evaluator import Evaluator
from merging.runs.jobs import MergeSpec, parse_job
from merging.runs.worker.trace import TRACE, Trace
from merging.runs.workspace import Workspace
from merging.suites import Suite
from tests.app.conftest import TASKS, build_suite, links, texts
from tests.app.finished_runs import carry_out_queued, finished
from tests.carrying import execute
from ui.lesson.adaptive import short_run
from ui.lesson.shipping import DEMANDS
from ui.lesson.steps import STEPS
from ui.shell import state

Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished runs of these tests are runs on the CPU, whatever the machine has."""
    monkeypatch.setattr("merging.core.devices.torch.cuda.is_available", lambda: False)


def right(app: AppTest) -> str:
    """Letter of the choice that is marked as right."""
    (letter,) = re.findall(r"check_circle: \*\*(\w)\*\*", texts(app))
    return str(letter)


def done(suite: Suite, tmp_path: Path, **fields: Any) -> Any:
    """What a real run gives, in a workspace of its own."""
    spec = {"suite": str(suite.folder / "suite.yaml"), "tasks": suite.task_names, "device": "cpu", "split": "val"}
    job = parse_job({"job": "merge", **spec, **fields})
    return execute(job, Workspace(tmp_path / "elsewhere"))


def three(points: float) -> str:
    """Letter of: more, the same, less."""
    return "A" if points > 1 else "C" if points < -1 else "B"


@pytest.mark.parametrize("step", range(1, len(STEPS) + 1))
def test_every_step_asks_a_question(step: int, standing: Suite, look: Open, launched_workers: list[Path]) -> None:
    app = look("learn", step=str(step))
    assert not app.exception and not app.error and not app.warning
    assert [one.value for one in app.title] == [STEPS[step - 1].title]
    assert f"{step} of {len(STEPS)}" in texts(app)
    assert "check_circle" not in texts(app)
    assert app.button(key="lesson-previous").disabled is (step == 1)
    assert app.button(key="lesson-next").disabled is (step == len(STEPS))
    assert len(app.get("plotly_chart")) == 1
    assert not launched_workers


def test_buttons_lead_through_the_lesson_and_ask_anew(standing: Suite, look: Open) -> None:
    app = look("learn", **{"answer.1": "B"})
    assert app.button_group(key="answer.1").value == "B" and right(app)
    app.button(key="lesson-next").click().run()
    assert app.title[0].value == STEPS[1].title
    assert app.button_group(key="answer.2").value is None
    app.slider(key="one").set_value(0.75).run()
    app.button(key="lesson-next").click().run()
    app.button(key="lesson-previous").click().run()
    assert app.slider(key="one").value == 0.75
    app.button_group(key="step").set_value(8).run()
    assert app.title[0].value == STEPS[7].title
    assert not app.exception


def test_how_far_the_weights_moved(standing: Suite, look: Open) -> None:
    base = load_file(standing.folder / "base.safetensors")
    tuned = load_file(standing.folder / "cars.safetensors")
    length = sum(float((base[name].astype(np.float64) ** 2).sum()) for name in base) ** 0.5
    moved = sum(float(((tuned[name].astype(np.float64) - base[name]) ** 2).sum()) for name in base) ** 0.5
    app = look("learn", tuned="Cars", **{"answer.1": "Show the answer"})
    share = moved / length
    assert right(app) == ("A" if share > 0.3 else "B" if share >= 0.05 else "C")
    assert f"‖τ‖ = {moved:.2f} and ‖θ₀‖ = {length:.1f}: {100 * share:.1f} %." in texts(app)


def test_what_one_vector_does_to_the_others(standing: Suite, look: Open) -> None:
    evaluator, others = Evaluator(standing), ["apples", "birds", "doors"]
    own = evaluator.accuracy(standing.checkpoint("cars"), others, "val").per_task
    base = evaluator.accuracy(standing.base_checkpoint, others, "val").per_task
    mean = 100 * float(np.mean([own[task] - base[task] for task in others]))
    app = look("learn", step="2", tuned="Cars", one="0.5", **{"answer.2": "A"})
    assert right(app) == three(mean)
    assert f"{mean:+.1f}".replace("-", "−") + " points on average" in texts(app)


def test_where_the_full_sum_ends_up(standing: Suite, look: Open, tmp_path: Path) -> None:
    summed = done(standing, tmp_path, merge_params={"scaling": 1.0}).average
    shown = done(standing, tmp_path, merge_params={"scaling": 0.6}).average
    evaluator = Evaluator(standing)
    base = evaluator.accuracy(standing.base_checkpoint, TASKS, "val").average
    own = float(np.mean([evaluator.accuracy(standing.checkpoint(t), [t], "val").average for t in TASKS]))
    app = look("learn", step="3", all="0.6", **{"answer.3": "A"})
    assert right(app) == ("A" if summed >= own - 0.01 else "B" if summed >= base else "C")
    assert f"{100 * summed:.1f} %. The base model has {100 * base:.1f} %" in texts(app)
    assert f"{100 * shown:.1f} % on average, on 96 validation images" in texts(app)


def test_whether_cosine_predicts_interference(standing: Suite, look: Open, tmp_path: Path) -> None:
    change = np.array(done(standing, tmp_path, job="interference", merge_params={"scaling": 0.3}).change)
    taus = [
        np.concatenate(
            [
                (load_file(standing.folder / f"{task}.safetensors")[name] - tensor).ravel()
                for name, tensor in load_file(standing.folder / "base.safetensors").items()
            ]
        )
        for task in TASKS
    ]
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    x = [float(taus[i] @ taus[j] / np.linalg.norm(taus[i]) / np.linalg.norm(taus[j])) for i, j in pairs]
    r = float(np.corrcoef(x, [change[pair] for pair in pairs])[0, 1])
    app = look("learn", step="4", joining="Doors", **{"answer.4": "A"})
    assert f"r = {r:+.2f}".replace("-", "−") + " over 12 pairs" in texts(app)
    (chance,) = re.findall(r"; ([\d.]+) % of random relabellings", texts(app))
    assert right(app) == ("C" if float(chance) > 5 else "A" if r < 0 else "B")


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_what_awd_does_to_accuracy_and_to_coefficients(
    alpha: float, standing: Suite, look: Open, tmp_path: Path
) -> None:
    plain = done(standing, tmp_path, merge_params={"scaling": 0.3}).average
    run = done(standing, tmp_path, edit="awd", edit_params={"alpha": alpha}, merge_params={"scaling": 0.3})
    app = look("learn", step="5", **{"learn-alpha": f"{alpha:g}", "answer.5": "A"})
    assert right(app) == three(100 * (run.average - plain))
    assert f"{100 * plain:.1f} % before and {100 * run.average:.1f} % after AWD" in texts(app)
    app.button(key="lesson-next").click().run()
    assert app.slider(key="learn-alpha").value == alpha
    low, high = min(run.edit.task_multipliers), max(run.edit.task_multipliers)
    assert f"{low:.3f} to {high:.3f}" in texts(app)
    app.button_group(key="answer.6").set_value("A").run()
    assert right(app) == "C"


def test_adamerging_learns_in_the_worker(tiny: Suite, open_page: Open, launched_workers: list[Path]) -> None:
    app = open_page("learn", step="7", **{"answer.7": "A"})
    assert "It has to learn first" in texts(app)
    app.button(key="lesson-learn").click().run()
    assert not app.exception and launched_workers
    (run,) = state.workspace().store.queued()
    assert app.query_params["run"] == run.id
    assert (run.spec.merge_params["split"], run.spec.split) == ("val", "test")
    store = state.workspace().store
    store.claim(run.id)
    store.folder(run.id).mkdir(parents=True)
    Trace(store.folder(run.id) / TRACE)({"step": 7, "entropy": [1] * 4, "coefficients": [0.3, 0.41, 0.2, 0.3]})
    app.run()
    assert "Birds is highest at 0.41, Cars lowest at 0.20" in texts(app)
    store.finish(run.id, execute(run.spec, state.workspace()))
    app.run()
    assert not app.exception
    result = store.get(run.id).result
    assert result is not None
    plain = execute(MergeSpec.like(run.spec, merge="task_arithmetic", merge_params={"scaling": 0.3}), state.workspace())
    assert right(app) == three(100 * (result.average - plain.average))
    assert f"AdaMerging {100 * result.average:.1f} %, λ = 0.3 for all {100 * plain.average:.1f} %" in texts(app)
    again = open_page("learn", step="7", run=run.id)
    assert not again.warning and "60 steps, 16 unlabeled validation images" in texts(again)


def test_a_run_of_something_else_is_refused_in_words(tiny: Suite, open_page: Open) -> None:
    other = finished(state.workspace(), tiny)
    app = open_page("learn", step="7", run=other.id)
    assert f"no run {other.id} of AdaMerging alone on these tasks" in texts(app)
    assert "run" not in app.query_params


def test_which_to_ship_follows_from_what_is_asked(tiny: Suite, open_page: Open) -> None:
    space = state.workspace()
    auto = {"merge_params": {"scaling": "auto"}}
    finished(space, tiny, 0.7, **auto)
    finished(space, tiny, 0.8, edit="awd", **auto)
    finished(space, tiny, 0.65, merge="average")
    run = space.submit(short_run(state.suite_reference(), tiny.task_names, "cpu"))
    space.store.claim(run.id)
    space.store.finish(run.id, execute(run.spec, space))
    facts = []  # name, accuracies, one model, images, labels
    for one in space.store.all():
        assert one.result is not None
        labels = one.spec.merge_params.get("scaling") == "auto"
        name = "AdaMerging, 60 steps" if one.spec.merge == "adamerging" else one.spec.label
        facts.append((name, list(one.result.accuracy.values()), True, one.spec.merge != "average", labels))
    evaluator = Evaluator(tiny)
    own = [evaluator.accuracy(tiny.checkpoint(task), [task]).average for task in TASKS]
    base = list(evaluator.accuracy(tiny.base_checkpoint, TASKS).per_task.values())
    facts += [("Individual, 4 models", own, False, False, False), ("Zero-shot", base, True, False, False)]
    app = open_page("learn", step="8", **{"answer.8": "A"})
    for asked in [(), *((one,) for one in DEMANDS), *pairwise(DEMANDS)]:
        app.button_group(key="demands").set_value(list(asked)).run()
        assert not app.exception
        judge = min if "Best worst task" in asked else np.mean
        fit = [
            (judge(values), name)
            for name, values, one, images, labels in facts
            if (one or "One model" not in asked)
            and not (labels and "No labels" in asked)
            and not (images and "No images" in asked)
        ]
        chosen = re.search(r"check_circle: \*\*\w\*\*&ensp;(.+?)\]", texts(app))
        assert chosen is not None
        best = max(fit, key=lambda pair: pair[0])
        ties = {name for value, name in fit if value == best[0]}
        assert chosen.group(1) in ties, asked


@pytest.mark.parametrize(
    ("parameter", "value", "shown", "step"),
    [
        ("step", "9", "1 is shown", 1),
        ("answer.1", "Z", "No answer is shown", 1),
        ("tuned", "trees", "Apples is shown", 1),
        ("one", "7", "0 is shown", 2),
        ("all", "x", "0.3 is shown", 3),
        ("joining", "trees", "Apples is shown", 4),
        ("learn-alpha", "2", "0.1 is shown", 5),
        ("demands", "Free", "is shown", 8),
    ],
)
def test_what_a_link_asks_for_in_vain_is_named(
    parameter: str, value: str, shown: str, step: int, standing: Suite, look: Open
) -> None:
    query = {"step": str(step), parameter: value}
    app = look("learn", **query)
    assert not app.exception
    (warning,) = (one.value.replace("\\", "") for one in app.warning)
    assert f"The link asks for {parameter} = {value}, which is" in warning and shown in warning


@pytest.mark.parametrize("step", range(1, len(STEPS) + 1))
def test_one_task_is_enough_or_it_says_how_many(step: int, standing: Suite, look: Open) -> None:
    app = look("learn", step=str(step), tasks=["cars"])
    assert not app.exception and not app.error
    needed = STEPS[step - 1].tasks
    assert (f"Choose at least {needed} tasks" in texts(app)) is (needed > 1)
    if step in (1, len(STEPS)):
        app.multiselect(key="tasks").set_value([]).run()
        assert not app.exception and "no task is selected" in texts(app)


def test_weights_alone_are_enough_for_the_first_step(suites_folder: Path, open_page: Open) -> None:
    build_suite(suites_folder / "bare", images=False)
    app = open_page("learn", **{"answer.1": "A"})
    assert not app.exception and right(app)
    app.button(key="lesson-next").click().run()
    assert not app.exception and "No accuracy without images and heads" in texts(app)


def test_large_models_are_told_of_the_embedded_suite(
    standing: Suite, look: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.accuracy.measuring._QUICK", {"cpu": 0})
    app = look("learn", step="3")
    assert not app.exception
    assert "these models are too large" in texts(app)
    assert not look("learn", step="8").exception


def test_start_leads_to_the_lesson(standing: Suite, look: Open) -> None:
    assert "New to merging? A lesson in eight steps" in links(look())


def test_what_is_offered_is_queued(tiny: Suite, open_page: Open) -> None:
    app = open_page("learn", step="8")
    app.button(key="lesson-more").click().run()
    assert not app.exception
    assert len(state.workspace().store.queued()) == 4
    carry_out_queued(state.workspace())
    app.run()
    assert not app.exception
    assert not any(one.key == "lesson-more" for one in app.button)
