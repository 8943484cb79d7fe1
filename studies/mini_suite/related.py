"""`python -m studies.mini_suite.related`: the embedded suite `mini-related`, six tasks of reading characters.

They begin with the base of `mini`, and three are tasks of `mini`, whose files serve both suites. Each of the others
shares something with those: the classes, the kind of pictures, or both.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import yaml
from safetensors.torch import load_file

from studies.mini_suite.build import EMBEDDED, BuildPlan, Reporter, fine_tune_all
from studies.mini_suite.model import new_model, zero_shot_head
from studies.mini_suite.suite_files import (
    common_description,
    save_tensors,
    task_description,
    write_description,
    write_images,
)
from studies.mini_suite.tasks import DIGITS, HOUSE_NUMBERS, LETTERS

RELATED = EMBEDDED.with_name("mini-related")
COUNTS = {"val": 150, "test": 200}

NUMERALS = replace(
    HOUSE_NUMBERS,
    name="numerals",
    title="Printed numerals",
    description="A digit as letters are printed: the classes of house numbers in the pictures of letters.",
    templates=('a photo of the number "{}".', "the number {}.", "a printed {}.", "the number {} on paper."),
)
NAMEPLATES = replace(
    LETTERS,
    name="nameplates",
    title="Letters on houses",
    description="A letter as house numbers are: the classes of letters in the pictures of house numbers.",
    templates=(
        'a street sign of the letter "{}".',
        "the letter {} on a house.",
        "a photo of the letter {} on a wall.",
        "a house with the {}.",
    ),
)
HOUSE_NUMBERS_2 = replace(
    HOUSE_NUMBERS,
    name="housenumbers2",
    title="House numbers, again",
    description="House numbers learned once more, from other pictures of the same kind.",
)
SHARED = (DIGITS, HOUSE_NUMBERS, LETTERS)
OWN = (HOUSE_NUMBERS_2, NAMEPLATES, NUMERALS)


def suite_description(logit_scale: float) -> dict[str, object]:
    """The contents of suite.yaml."""
    entries = [task_description(task, "../mini/") for task in SHARED] + [task_description(task) for task in OWN]
    return {
        "name": "mini-related",
        "title": "Mini CLIP, related tasks",
        "description": (
            "The base of mini, fine-tuned on six tasks of reading characters, which share classes, kinds of pictures, "
            "or both: their task vectors are far from orthogonal."
        ),
        "licence": "MIT; handwritten digits CC BY 4.0, see ../mini/data/LICENSES.md",
        **common_description(logit_scale, "../mini/"),
        "tasks": entries,
    }


def build(plan: BuildPlan, mini: Path, output: Path, report: Reporter) -> None:
    """Make the suite in `output`, from the towers of the suite in the folder `mini`."""
    logit_scale = yaml.safe_load((mini / "suite.yaml").read_text(encoding="utf-8"))["logit_scale"]
    model = new_model()
    model.load_state_dict({name: part.float() for name, part in load_file(mini / "text.safetensors").items()}, False)
    report.stage("1/2 rendering images for evaluation")
    for task in OWN:
        save_tensors({"weight": zero_shot_head(model, task)}, output / "heads" / f"{task.name}.safetensors")
        write_images(task, plan.seed, output / "data" / f"{task.name}.npz", COUNTS)
    report.stage("2/2 fine-tuning on each task")
    fine_tune_all(OWN, plan, logit_scale, mini / "base.safetensors", output, report)
    write_description(suite_description(logit_scale), output / "suite.yaml")


@click.command()
def main() -> None:
    """Build the embedded suite mini-related: render, fine-tune, write. A few minutes of one core."""
    build(BuildPlan(), EMBEDDED, RELATED, Reporter())
    click.echo(f"{RELATED.name} is written; `merging check {RELATED.name}` looks at it", err=True)


if __name__ == "__main__":
    main()
