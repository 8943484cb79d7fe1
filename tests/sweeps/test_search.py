"""Which trials are proposed, when, and that nothing but the past decides."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.sweeps import SweepDefinition
from merging.sweeps.search import Known, next_numbers, propose
from tests.lightly import optuna


def searched(**changes: Any) -> SweepDefinition:
    fields = {
        "suite": "mini",
        "edits": {"none": {}, "ties": {"keep": {"low": 0.05, "high": 1, "log": True}, "combine": ["sum", "mean"]}},
        "merges": {
            "task_arithmetic": {"scaling": {"low": 0, "high": 1.05, "step": 0.1}},
            "adamerging": {"steps": {"low": 10, "high": 95, "step": 20}, "clamp": [True, False]},
            "fisher": {},
        },
        "search": "tpe",
        "trials": 25,
        "seed": 3,
        **changes,
    }
    return SweepDefinition.model_validate(fields)


def score(settings: dict[str, Any]) -> float:
    """Best with TIES, little kept, and λ = 0.4."""
    scaling, keep = settings.get("merges.task_arithmetic.scaling", 1.5), settings.get("edits.ties.keep", 1.5)
    return float(1 - abs(scaling - 0.4) - 0.3 * keep)


def history(definition: SweepDefinition, trials: int) -> list[Known]:
    known: list[Known] = []
    for number in range(trials):
        settings = propose(definition, number, known)
        known.append(Known(settings, True, score(settings)))
    return known


def test_every_proposal_lies_in_the_space() -> None:
    definition = searched()
    seen = history(definition, 25)
    assert {(one.settings["edit"], one.settings["merge"]) for one in seen} <= set(definition.pairs)
    assert ("ties", "fisher") not in definition.pairs and len(definition.pairs) == 5
    for one in seen:
        settings = one.settings
        expected = {"edit", "merge"}
        if settings["edit"] == "ties":
            assert 0.05 <= settings["edits.ties.keep"] <= 1 and settings["edits.ties.combine"] in ("sum", "mean")
            expected |= {"edits.ties.keep", "edits.ties.combine"}
        if settings["merge"] == "task_arithmetic":
            scaling = settings["merges.task_arithmetic.scaling"]
            assert 0 <= scaling <= 1 and 10 * scaling == pytest.approx(round(10 * scaling))
            expected.add("merges.task_arithmetic.scaling")
        if settings["merge"] == "adamerging":
            steps = settings["merges.adamerging.steps"]
            assert steps in (10, 30, 50, 70, 90) and isinstance(steps, int)
            assert settings["merges.adamerging.clamp"] in (True, False)
            expected |= {"merges.adamerging.steps", "merges.adamerging.clamp"}
        assert settings.keys() == expected
        definition.spec(("digits", "signs"), settings)


def test_a_seed_gives_the_same_proposals_and_another_seed_others() -> None:
    first, second = history(searched(), 25), history(searched(), 25)
    assert first == second
    assert history(searched(seed=4), 25) != first


def test_the_past_changes_proposals() -> None:
    """After the random trials at the start, what was measured decides; so a search without results differs."""
    definition = searched()
    blind = [Known(one.settings, True, None) for one in history(definition, 24)]
    assert propose(definition, 24, blind) != propose(definition, 24, history(definition, 24))


def test_it_is_better_than_chance() -> None:
    late = [one.value for one in history(searched(trials=60), 60)[30:]]
    chance = [score(propose(searched(trials=60), number, [])) for number in range(30, 60)]
    assert sum(filter(None, late)) > sum(chance) + 3


def test_it_is_optuna_s_sampler() -> None:
    """An independent study, told the same with ask and tell, proposes the same next values."""
    definition = SweepDefinition.model_validate(
        {
            "suite": "mini",
            "merges": {"task_arithmetic": {"scaling": {"low": 0, "high": 1}}},
            "search": "tpe",
            "trials": 30,
            "seed": 5,
        }
    )
    known = history(definition, 20)
    study = optuna.create_study(direction="maximize")
    for one in known:
        study.enqueue_trial({"pair": 0, "x": one.settings["merges.task_arithmetic.scaling"]})
        trial = study.ask()
        trial.suggest_categorical("pair", [0])
        trial.suggest_float("x", 0, 1)
        study.tell(trial, one.value)
    study.sampler = optuna.samplers.TPESampler(seed=int(np.random.SeedSequence([5, 20]).generate_state(1)[0]))
    trial = study.ask()
    trial.suggest_categorical("pair", [0])
    expected = trial.suggest_float("x", 0, 1)
    assert propose(definition, 20, known)["merges.task_arithmetic.scaling"] == expected


@pytest.mark.parametrize("parallel", [2, 4])
def test_whether_the_last_ones_are_done_makes_no_difference(parallel: int) -> None:
    """Parallel trials end in any order; a sweep gives the same proposals all the same."""
    definition = searched(parallel=parallel)
    done = history(definition, 20)
    waiting = [*done[: 21 - parallel], *(Known(one.settings, False, None) for one in done[21 - parallel :])]
    assert propose(definition, 20, done) == propose(definition, 20, waiting)


@given(
    parallel=st.integers(1, 5), grid=st.booleans(), order=st.randoms(use_true_random=False), subsets=st.integers(1, 3)
)
def test_every_trial_has_its_turn_and_waits_for_what_it_depends_on(
    parallel: int, grid: bool, order: Any, subsets: int
) -> None:
    how = {"search": "grid"} if grid else {"search": "tpe", "trials": 7}
    space = {"task_arithmetic": {"scaling": {"low": 0, "high": 0.6, "step": 0.1}}}
    definition = SweepDefinition.model_validate(
        {"suite": "mini", "tasks": [["a"], ["b"], ["c"]][:subsets], "merges": space, "parallel": parallel, **how}
    )
    finished: dict[int, bool] = {}
    for _ in range(1000):
        for number in next_numbers(definition, finished):
            assert number not in finished
            if not grid:
                assert all(finished[earlier] for earlier in range(number - number % 7, number - parallel + 1))
            finished[number] = False
        under_way = [number for number, done in finished.items() if not done]
        assert len(under_way) <= parallel
        if not under_way:
            break
        finished[order.choice(under_way)] = True
    assert sorted(finished) == list(range(7 * subsets)) and all(finished.values())
