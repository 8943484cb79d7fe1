"""The published tables: what they hold, how they are chosen, and that a broken file is named."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner

from merging.cli import main
from merging.core.errors import MergingError, SpecError
from merging.suites.reported import FILE, Family, load_published, published_architecture, reported_tables, to_markdown

RAW = json.loads(FILE.read_text(encoding="utf-8"))
USUAL = len(RAW["tasks"])
KINDS = {(table["checkpoints"], table["architecture"]) for table in RAW["tables"]}
TABLES = {
    (table["checkpoints"], table["architecture"], len(table.get("tasks", RAW["tasks"]))) for table in RAW["tables"]
}


def written(folder: Path, content: Any) -> Path:
    path = folder / "reported.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_every_printed_number_is_kept_as_a_share() -> None:
    known = reported_tables()
    assert len(known.tables) == len(RAW["tables"])
    for table, raw in zip(known.tables, RAW["tables"], strict=True):
        assert (table.checkpoints, table.architecture, table.source) == (
            raw["checkpoints"],
            raw["architecture"],
            raw["source"],
        )
        for row, line in zip(table.rows, raw["rows"], strict=True):
            assert row.method == line["method"]
            assert {task: 100 * value for task, value in row.accuracy.items()} == pytest.approx(line["accuracy"])
            assert 100 * row.average == pytest.approx(line["average"])


def test_the_families_are_those_that_a_suite_may_name() -> None:
    assert set(reported_tables().families) == set(get_args(Family)) == {family for family, _ in KINDS}


@pytest.mark.parametrize("family", [None, *get_args(Family)])
@pytest.mark.parametrize("architecture", [None, "ViT-B-32", "ViT-B-16", "ViT-L-14", "RN50"])
def test_tables_are_chosen_by_family_and_architecture(family: str | None, architecture: str | None) -> None:
    wanted = {(f, a, n) for f, a, n in TABLES if family in (None, f) and architecture in (None, a)}
    if not wanted:
        with pytest.raises(SpecError, match="there are: fusion_bench ViT-B-32"):
            reported_tables().select(family, architecture)
        return
    found = reported_tables().select(family, architecture)
    assert {(table.checkpoints, table.architecture, len(table.tasks)) for table in found} == wanted
    assert len(found) == len(wanted)
    assert set(reported_tables().architectures(family)) == {a for f, a in KINDS if family in (None, f)}


def test_rows_are_ranked_by_their_printed_average() -> None:
    for table in reported_tables().tables:
        averages = [row.average for row in table.ranked()]
        assert averages == sorted(averages, reverse=True) and len(averages) == len(table.rows)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("ViT-B-32", "ViT-B-32"),
        ("ViT-L-14-quickgelu", "ViT-L-14"),
        ("ViT-H-14", None),
        ("ViT-B-32-256", None),
        ({"embed_dim": 512, "vision_cfg": {}}, None),
    ],
)
def test_an_architecture_is_known_by_its_name_in_open_clip(architecture: Any, expected: str | None) -> None:
    assert published_architecture(architecture) == expected


def spoiled(**changes: Any) -> dict[str, Any]:
    """A file with one table of one row, with changes to the row or, under other names, to the whole."""
    row = {"method": "M", "accuracy": {"a": 40.0, "b": 60.0}, "average": 50.0}
    table = {"checkpoints": "fusion_bench", "architecture": "X", "source": "S", "rows": [row]}
    families = {"fusion_bench": {"title": "F", "description": "d"}}
    content: dict[str, Any] = {"note": "n", "families": families, "tasks": ["a", "b"], "tables": [table]}
    for name, value in changes.items():
        place = next(part for part in (row, table, content) if name in part)
        place[name] = value
    return content


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    (table,) = load_published(written(tmp_path, spoiled())).tables
    assert table.rows[0].accuracy == {"a": 0.4, "b": 0.6}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("no json", "can't be read as JSON"),
        ([], r"\[\]: must be names with values"),
        (spoiled(accuracy={"a": 40.0}), "M: tasks .*expected"),
        (spoiled(accuracy={"a": 40.0, "c": 60.0}), "M: tasks .*expected"),
        (spoiled(accuracy={"a": 140.0, "b": 60.0}), r"accuracy\.a = 140\.0: must be at most 100"),
        (spoiled(average=51.0), r"average 51\.0, but its tasks have 50\.0"),
        (spoiled(checkpoints="mine"), "'task_arithmetic', 'fusion_bench'"),
        (spoiled(families={}), "not described under families"),
        (spoiled(rows=2 * spoiled()["tables"][0]["rows"]), "methods must differ"),
        (spoiled(rows=[]), r"rows = \[\]: must be a list of at least 1"),
        (spoiled(tables=2 * spoiled()["tables"]), "several tables"),
        ({**spoiled(), "surprise": 1}, "surprise: unknown name"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(tmp_path: Path, content: Any, complaint: str) -> None:
    with pytest.raises(MergingError, match=rf"^reported\.json: .*{complaint}"):
        load_published(written(tmp_path, content))


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(MergingError, match=r"^reported\.json: can't be read"):
        load_published(tmp_path / "reported.json")


def test_every_family_has_tables_of_its_own_in_markdown() -> None:
    text = to_markdown(reported_tables().tables)
    sections = text.split("\n## ")[1:]
    assert len(sections) == len(TABLES)
    for section, raw in zip(sections, RAW["tables"], strict=True):
        assert raw["source"] in section and raw["architecture"] in section.splitlines()[0]
        rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
        assert len(rows) == len(raw["rows"])
        best = max(raw["rows"], key=lambda row: row["average"])
        assert rows[0].startswith(f"| {best['method']} |") and f"**{best['average']:.1f}**" in rows[0]


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["published", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_prints_tables_or_json() -> None:
    code, out, _ = call("--family", "task_arithmetic", "--architecture", "ViT-L-14")
    assert code == 0 and out.count("\n## ") == 1 and "WUDI-Merging" in out
    code, out, _ = call("--architecture", "ViT-B-32", "--json")
    found = json.loads(out)
    known = [(table["checkpoints"], len(table["tasks"])) for table in found["tables"]]
    assert known == [("fusion_bench", USUAL), ("task_arithmetic", USUAL), ("fusion_bench", 20)]
    assert found["tables"][0]["rows"][0]["average"] == pytest.approx(0.482)
    assert found["note"] == RAW["note"]


def test_the_command_says_what_there_is() -> None:
    code, out, err = call("--family", "mine")
    assert (code, out) == (1, "") and "fusion_bench ViT-B-32" in err
