"""The factor of logits as files have it: a logarithm, the factor itself, another one than suite.yaml says, or none."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from merging.core.errors import SuiteError
from merging.evaluation.assumptions import assumptions
from merging.evaluation.evaluator import Evaluator
from merging.runs.jobs.check import check_suite
from merging.suites import Suite, load_suite
from merging.suites.initialise import propose
from merging.weights.convert import convert
from tests.random_models import random_tower, write_config

LN = math.log(31.5)


def whole(stored: object) -> dict[str, torch.Tensor]:
    state = {f"visual.{name}": tensor for name, tensor in random_tower(0).items()}
    return state if stored is None else {**state, "logit_scale": torch.as_tensor(stored)}


@pytest.mark.parametrize(
    ("stored", "written", "noted"),
    [
        (LN, 31.5, ""),
        ([LN], 31.5, ""),  # open_clip's nonscalar_logit_scale
        (100.0, 100.0, "logit_scale: the base stores 100, too large for a logarithm, so taken as it is"),
        (-3.0, None, "logit_scale: the base stores -3, which is neither the logarithm of a scale nor one; 100"),
        (float("nan"), None, "stores nan, which is neither"),
        (1e30, None, "stores 1e+30, which is neither"),
        (None, None, "logit_scale: no file says; 100"),
    ],
)
def test_a_new_suite_says_what_the_base_stores(tmp_path: Path, stored: Any, written: float | None, noted: str) -> None:
    """Before: exp(100) of a factor that is stored as it is."""
    write_config(tmp_path)
    save_file(whole(stored), tmp_path / "openai.safetensors")
    save_file(random_tower(1), tmp_path / "cats.safetensors")
    made = propose(tmp_path)
    found = made.content.get("logit_scale")
    assert found == (None if written is None else pytest.approx(written, abs=1e-3))
    assert noted in made.notes.get("base", "") and bool(noted) == ("logit_scale" in made.notes.get("base", ""))


def of_suite(folder: Path, scale: float | None, stored: float | None) -> Suite:
    described = yaml.safe_load((folder / "suite.yaml").read_text())
    described.pop("logit_scale")
    described |= {} if scale is None else {"logit_scale": scale}
    (folder / "suite.yaml").write_text(yaml.safe_dump(described))
    if stored is not None:
        state = {f"visual.{name}": tensor for name, tensor in load_file(folder / "base.safetensors").items()}
        save_file({**state, "logit_scale": torch.tensor(stored)}, folder / "base.safetensors")
    return load_suite(folder)


def test_the_logarithm_of_the_base_is_no_factor(own_suite: Path) -> None:
    suite = of_suite(own_suite, 4.6052, math.log(100))
    with pytest.raises(SuiteError, match=r"logit_scale is 4\.6052, the number that base\.safetensors stores, which is"):
        Evaluator(suite).require(["digits"], "test")


@pytest.mark.parametrize(
    ("scale", "stored", "said"),
    [
        (100.0, math.log(100), ""),
        (99.6, math.log(100), ""),
        (
            None,
            LN,
            "suite.yaml says no logit_scale, so that 100 is taken, while base.safetensors stores 3.44999, which",
        ),
        (50.0, 100.0, "logit_scale is 50 in suite.yaml, while base.safetensors stores 100, which stands for 100"),
        (4.6052, None, "logit_scale is 4.6052 in suite.yaml, which looks like a logarithm: models have factors from"),
        (20.0, None, ""),
        (1.0, None, ""),
    ],
)
def test_a_factor_that_the_base_contradicts_is_said(
    own_suite: Path, scale: float | None, stored: float | None, said: str
) -> None:
    warnings = assumptions(of_suite(own_suite, scale, stored)).warnings
    assert [one.startswith(said) for one in warnings] == [True] * bool(said)


@pytest.mark.parametrize(
    ("norm", "said", "converted"),
    [
        (1.0, "", "rows divided by their norm 1"),
        (20.0, "", "rows divided by their norm 20 = exp(logit_scale)"),
        (
            100.0,
            "rows of norm 100, the suite's logit_scale is 20: rows are made 1 and the latter is taken",
            "norm 100 = ",
        ),
        (4.6, "the latter is taken; 4.6 looks like a logarithm of a scale", "rows divided by their norm 4.6"),
    ],
)
def test_heads_whose_rows_are_scaled_already(own_suite: Path, norm: float, said: str, converted: str) -> None:
    path = own_suite / "digits.head.safetensors"
    plain = Evaluator(load_suite(own_suite)).head("digits")
    save_file({"weight": norm * plain}, path)
    assert torch.allclose(Evaluator(load_suite(own_suite)).head("digits"), plain, atol=1e-6)
    rows = check_suite(load_suite(own_suite), try_models=False).files
    (warnings,) = (row.warnings for row in rows if row.file == path.name)
    assert [said in one for one in warnings] == [True] * bool(said)
    assert converted in convert(path, own_suite / "out" / path.name).detail
    assert ("exp" in convert(path, own_suite / "out" / path.name).detail) == (norm >= 10)
