"""Specifications as earlier versions stored them: opened as they are, and found again by their fingerprints.

The file was written by the version before edit, merge and their parameters became one value.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from merging.runs.jobs import parse_job
from merging.runs.jobs.model_job import ModelJob

RUNS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("earlier_runs.json").read_text(encoding="utf-8"))
CONTENTS = ("base", "one", "two")  # fingerprints of the files


def opened(stored: dict[str, Any]) -> ModelJob:
    job = parse_job(stored)
    assert isinstance(job, ModelJob)
    return job


@pytest.mark.parametrize("known", RUNS, ids=lambda known: known["label"])
def test_an_earlier_run_is_found_again_under_the_same_name(known: dict[str, Any]) -> None:
    stored = {"edit_params": known["edit_params"], "merge_params": known["merge_params"]}
    spec = opened({"suite": "mini", "tasks": ("a", "b"), **known["given"], **stored})
    dumped = spec.model_dump(mode="json")
    assert {name: dumped[name] for name in stored} == stored
    again = opened(json.loads(spec.model_dump_json()))
    corrected = spec.edit == "doge"  # it computes other numbers since, so that the same settings make a new run
    assert bool(spec.pair.outdated(None)) == corrected
    for one in (spec, again):
        assert (one.identity(CONTENTS, one.kind) == known["fingerprint"]) == (not corrected)
        assert one.label == known["label"].replace(" -", " −")  # numbers that people read have a minus sign since
        assert one.kind != "merge" or one.method == known["method"]
        assert (one.data.needs, list(one.data.chosen)) == (known["needs"], known["chosen"])
        assert list(one.forgotten) == known["forgotten"]
