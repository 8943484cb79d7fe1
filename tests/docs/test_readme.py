"""The README says what there is, and nothing that isn't there."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from merging.cli import main
from merging.methods import registry
from merging.methods.presets import PRESETS, Preset
from merging.runs.leaderboard import data_looked_at

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(group: click.Group, before: str = "") -> list[str]:
    names = []
    for name, command in group.commands.items():
        names += commands(command, f"{before}{name} ") if isinstance(command, click.Group) else [before + name]
    return names


@pytest.mark.parametrize("command", commands(main))
def test_every_command_is_documented(command: str) -> None:
    assert f"python -m merging {command}" in README


def test_every_documented_command_exists() -> None:
    known = {command.split()[0] for command in commands(main)}
    assert set(re.findall(r"python -m merging ([a-z-]+)", README)) <= known


@pytest.mark.parametrize("method", [*registry.edits().values(), *registry.merges().values()], ids=lambda m: m.name)
def test_every_method_is_documented_with_its_paper(method: registry.Stage) -> None:
    row = next((line for line in README.splitlines() if line.startswith(f"| `{method.name}` ")), None)
    assert row is not None
    assert method.paper in row
    assert f"{method.summary} | {method.data({}).needs} |" in row


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_every_preset_is_documented_with_its_pair_and_data(preset: Preset) -> None:
    def stage(name: str, values: Mapping[str, Any]) -> str:
        words = ", ".join(f"{key} = {value}" for key, value in values.items())
        return f"`{name}`" + (f" ({words})" if words else "")

    pair = " | ".join(stage(part.name, part.changed) for part in preset.pair.parts)
    assert f"\n| `{preset.name}` | {preset.title} | {pair} | {preset.data.needs} |\n" in README


def test_the_leaderboard_says_what_data_is_needed_as_a_new_one_would() -> None:
    rows = README.split("\n| method | data needed | chosen |")[1].splitlines()
    for preset in PRESETS.values():
        data = data_looked_at(preset)
        row = next((line for line in rows if line.startswith(f"| {preset.title} | ")), None)
        assert row is None or row.startswith(f"| {preset.title} | {data.needs} | {data.chosen_words} | ")


def test_every_link_to_a_file_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)]+)\)", README)
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert not [
        target
        for target in re.findall(r"(?:`|^    )make ([a-z]+)", README, re.MULTILINE)
        if f"\n{target}:" not in makefile
    ]
