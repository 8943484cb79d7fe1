"""The study of AWD before stronger merges: what is compared, how sure it is, that it is of the suites as they are."""

from pathlib import Path

import numpy as np
import pytest

from merging.runs.workspace import Workspace
from merging.suites import load_suite
from studies.page import load
from studies.related import (
    BEFORE,
    MERGES,
    OTHERS,
    SUITES,
    answers,
    average,
    cells,
    chosen_before,
    difference,
    measure,
    stronger_table,
)


def cell(**right: list[int]) -> dict:
    """A run that is right about these images of each task."""
    return {
        "images": {task: len(found) for task, found in right.items()},
        "right": {task: np.packbits(np.array(found, bool)).tobytes().hex() for task, found in right.items()},
    }


def test_every_merge_stands_alone_and_behind_awd_and_lambda_comes_from_validation() -> None:
    found = list(cells("mini-related"))
    assert {name for name, _, _ in cells("mini")} == set(MERGES)
    assert {(name, variant) for name, variant, _ in found} == {
        *((name, variant) for name in MERGES for variant in BEFORE),
        *((name, "none") for name in OTHERS),
    }
    for name, variant, pair in found:
        assert pair.edit.name == ("none" if variant == "none" else "awd")
        assert pair.scaling == (1.0 if name.endswith("λ = 1") else "auto")
        assert pair.data.needs == "none"


def test_lambda_of_mini_is_the_one_that_was_chosen_before() -> None:
    assert chosen_before("mini", "WUDI, closed form", "none") == 1.4
    assert chosen_before("mini", "Task Arithmetic", "row") == 0.4
    assert chosen_before("mini", "Overlap-scaled WUDI", "none") == 1.1
    assert chosen_before("mini", "Overlap-scaled WUDI", "row") is None
    assert chosen_before("mini-related", "TSV-M", "none") is None


def test_what_is_kept_of_a_run_are_its_answers(suite_file: Path, workspace: Workspace) -> None:
    kept = measure(str(suite_file), next(cells("mini-related"))[2], workspace)
    run = workspace.store.all()[0]
    assert run.result is not None and run.result.accuracy is not None
    assert {task: found.mean() for task, found in answers(kept).items()} == pytest.approx(run.result.accuracy)
    assert average(kept) == pytest.approx(100 * np.mean(list(run.result.accuracy.values())))


def test_a_difference_is_over_the_same_images_with_its_standard_error() -> None:
    one, other = cell(a=[1, 1, 0, 1], b=[1, 0]), cell(a=[1, 0, 0, 0], b=[1, 0])
    points, error = difference(one, other)
    steps = np.array([0, 1, 0, 1])
    assert points == pytest.approx(100 * (steps.mean() + 0) / 2)
    assert error == pytest.approx(100 * steps.std(ddof=1) / 2 / 2)
    assert difference(one, one) == (0, 0)
    assert difference(other, one) == (pytest.approx(-points), pytest.approx(error))


def test_the_table_says_gains_against_the_merge_alone() -> None:
    plain, better = cell(a=[1, 0, 0, 0]), cell(a=[1, 1, 0, 0])
    study = {
        "cells": [
            {"merge": merge, "variant": variant, "scaling": 1.0, **(better if variant == "row" else plain)}
            for merge in MERGES
            for variant in BEFORE
        ]
    }
    header, rows = stronger_table(study)
    assert header == ["merge", "no AWD", "λ", "AWD, row", "λ"]
    assert rows[0] == ["Task Arithmetic", "25.0", "1", "50.0 (+25.0 ± 25.0)", "1"]


def test_the_results_are_of_the_suites_as_they_are(tmp_path: Path) -> None:
    stored = load("related")
    assert set(stored) == set(SUITES)
    for name in SUITES:
        suite = load_suite(name)
        gram = Workspace(tmp_path).geometry(suite).gram
        np.testing.assert_allclose(gram, stored[name]["before"], rtol=1e-4, atol=1e-6)
