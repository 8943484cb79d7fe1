"""What ``make test-kernels`` runs, and what it leaves out."""

import pytest

from tests import kernels
from tests.kernels import LEVELS, SETTINGS, marked_files, possible


def test_a_processor_is_asked_for_no_more_than_it_can() -> None:
    asked = {able: {value for one in SETTINGS if possible(one, able) for _, value in one.variables} for able in LEVELS}
    older = {"COMPATIBLE", "default", "Sandybridge", "AVX2", "avx2", "Haswell"}
    assert asked == {"DEFAULT": set(), "AVX2": older, "AVX512": older | {"SkylakeX"}}


def test_settings_of_the_caller_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "SSE2")
    monkeypatch.setenv("KEPT", "1")
    assert "MKL_CBWR" not in kernels.untouched() and kernels.untouched()["KEPT"] == "1"


def test_marked_files_are_found() -> None:
    assert {"tests/methods/edits/test_awd.py", "tests/methods/test_plan.py"} <= set(marked_files())


@pytest.mark.parametrize("status", [0, 1])
def test_one_failure_fails_all_and_what_can_not_be_run_is_named(
    status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernels, "ability", lambda: "AVX2")
    monkeypatch.setattr(kernels, "run", lambda one: (one, status * ("Haswell" in one.name), "1 passed"))
    assert kernels.main() == status
    said = capsys.readouterr().out
    assert "skipped  OPENBLAS_CORETYPE=SkylakeX: needs AVX512, this processor has AVX2" in said
    assert said.count("passed   ") == 2 - status
