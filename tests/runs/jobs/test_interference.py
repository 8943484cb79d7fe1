"""Drop one out: the matrix is that of plain merges, and the correlations are those of SciPy."""

from pathlib import Path

import numpy as np
import pytest

from merging.core.errors import Cancelled, SpecError
from merging.evaluation.evaluator import Evaluator
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.interference import InterferenceJob, agreement
from merging.runs.workspace import Workspace
from merging.suites import Suite
from tests.carrying import execute
from tests.lightly import stats
from tests.random_models import TASKS


def spec_of(suite_file: Path, tasks: tuple[str, ...] = TASKS, **choices: object) -> InterferenceJob:
    return InterferenceJob.build(suite=str(suite_file), tasks=tasks, split="val", **choices)


def plain_accuracy(suite: Suite, evaluator: Evaluator, coefficients: dict[str, float]) -> list[float]:
    """Accuracy on all tasks of θ₀ + Σ c (θ_t − θ₀), written out."""
    base = suite.base_checkpoint
    state = {
        name: base[name] + sum(c * (suite.checkpoint(task)[name] - base[name]) for task, c in coefficients.items())
        for name in base
    }
    return list(evaluator.accuracy(state, TASKS, "val").per_task.values())


def test_it_is_the_difference_of_plain_merges(
    suite: Suite, suite_file: Path, evaluator: Evaluator, workspace: Workspace
) -> None:
    scaling = dict(zip(TASKS, (0.5, 0.9, 0.3, 1.2), strict=True))
    result = execute(spec_of(suite_file, merge_params={"scaling": tuple(scaling.values())}), workspace)
    together = plain_accuracy(suite, evaluator, scaling)
    assert result.accuracy == together
    for j, left_out in enumerate(TASKS):
        apart = plain_accuracy(suite, evaluator, {task: c for task, c in scaling.items() if task != left_out})
        assert result.without[j] == apart
        for i in range(len(TASKS)):
            assert result.change[i][j] == pytest.approx(together[i] - apart[i])
    assert result.images == sum(result.counts.values())
    assert result.split == "val"


@pytest.mark.parametrize(
    "choices",
    [
        {"edit": "awd"},
        {"edit": "ties"},
        {"merge": "iso_c"},
        {"merge": "tall_masks", "merge_params": {"threshold": 0.4}},
    ],
)
def test_every_row_is_a_run_of_its_own(choices: dict[str, object], suite_file: Path, workspace: Workspace) -> None:
    every = TASKS[:3]
    result = execute(spec_of(suite_file, every, **choices), workspace)

    def merged(tasks: tuple[str, ...]) -> dict[str, float]:
        spec = MergeSpec.build(suite=str(suite_file), tasks=tasks, split="val", **choices)
        accuracy: dict[str, float] = execute(spec, workspace).accuracy
        return accuracy

    assert result.accuracy == list(merged(every).values())
    for j, left_out in enumerate(every):
        found = dict(zip(every, result.without[j], strict=True))
        own = merged(tuple(task for task in every if task != left_out))
        assert {task: found[task] for task in own} == own


def test_progress_counts_merges(suite_file: Path, workspace: Workspace) -> None:
    told: list[tuple[int, int, str]] = []
    execute(spec_of(suite_file), workspace, on_progress=lambda *report: told.append(report))
    mine = [(done, total) for done, total, message in told if message.startswith("leaving out")]
    assert list(dict.fromkeys(mine)) == [(done, 5) for done in range(5)]
    assert any("without roads" in message for _, _, message in told)


def test_what_can_not_be_left_out(suite_file: Path, workspace: Workspace) -> None:
    with pytest.raises(SpecError, match="at least two"):
        spec_of(suite_file, TASKS[:1])
    with pytest.raises(SpecError, match=r"merge\.scaling must be fixed"):
        spec_of(suite_file, merge_params={"scaling": "auto"})
    with pytest.raises(Cancelled):
        execute(spec_of(suite_file), workspace, cancelled=lambda: True)


def test_correlations() -> None:
    random = np.random.default_rng(0)
    similarity = random.normal(size=(6, 6))
    similarity = np.round(similarity + similarity.T, 1)  # with ties
    change = np.round(-similarity + 0.5 * random.normal(size=(6, 6)), 1)
    off = ~np.eye(6, dtype=bool)
    found = agreement(similarity, change)
    assert found.pearson == pytest.approx(stats.pearsonr(similarity[off], change[off]).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(similarity[off], change[off]).statistic)
    assert found.pairs == 30
    assert found.chance < 0.05


def test_rounding_of_cosines_changes_no_rank_and_no_chance() -> None:
    """Libraries sum ⟨τ_i, τ_j⟩ and ⟨τ_j, τ_i⟩ in different orders, and pairs of twins have one cosine."""
    random = np.random.default_rng(2)
    similarity = random.normal(size=(5, 5))
    similarity += similarity.T
    similarity[[0, 1]] = similarity[[1, 0]] = similarity[:, [0, 1]].T[[0, 0]]  # tasks 0 and 1 are twins
    similarity[:, [0, 1]] = similarity[[0, 1]].T
    change = random.normal(size=(5, 5))
    plain = agreement(similarity, change, relabellings=120)
    for seed in range(5):
        noise = 1e-7 * np.random.default_rng(seed).normal(size=(5, 5))
        found = agreement(similarity + noise, change, relabellings=120)
        assert (found.spearman, found.chance) == (plain.spearman, plain.chance)


def test_unrelated_matrices_agree_by_chance_only() -> None:
    random = np.random.default_rng(1)
    chances = []
    for _ in range(40):
        similarity = random.normal(size=(6, 6))
        chances.append(agreement(similarity + similarity.T, random.normal(size=(6, 6)), relabellings=200).chance)
    assert 0.3 < np.mean(chances) < 0.7


def test_constant_sides_have_no_correlation() -> None:
    found = agreement(np.ones((4, 4)), np.zeros((4, 4)))
    assert np.isnan([found.pearson, found.spearman, found.chance]).all()
    blurred = np.ones((4, 4)) + 1e-6 * np.random.default_rng(0).normal(size=(4, 4))  # cosines of equal models
    found = agreement(blurred, np.random.default_rng(1).normal(size=(4, 4)))
    assert np.isnan([found.pearson, found.spearman, found.chance]).all()
    with pytest.raises(SpecError, match="at least three"):
        agreement(np.eye(2), np.eye(2))
