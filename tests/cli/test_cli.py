"""The command line: output, exit statuses, errors."""

import json
import re
import sqlite3
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from merging.cli import main
from merging.cli.text import print_matrix, print_similarity
from merging.core.errors import CheckpointError
from merging.evaluation import evaluator as evaluation
from merging.methods.edits.awd import rose
from merging.runs.jobs import Site
from merging.runs.jobs.job import Job
from tests.random_models import TASKS


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def as_json(*arguments: object) -> dict[str, Any]:
    """The one JSON object that a command prints on standard output; nothing else may stand there."""
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def test_suites_are_listed() -> None:
    assert "mini" in {row["name"] for row in as_json("suites")["suites"]}
    assert "mini" in call("suites").stdout


def test_suites_of_the_dashboards_folders_go_by_their_names(
    own_suite: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = own_suite.name
    assert f"no suite '{name}'" in call("similarity", name, "--home", home).stderr
    monkeypatch.setenv("MERGING_SUITES", str(own_suite.parent))
    assert as_json("similarity", name, "--home", home) == as_json("similarity", own_suite, "--home", home)
    assert as_json("evaluate", name, "--checkpoint", own_suite / "base.safetensors", "--home", home)["average"] >= 0
    (own_suite.parent / "broken").mkdir()
    (own_suite.parent / "broken" / "suite.yaml").write_text("nonsense")
    listed = call("suites")
    assert f"\n{name}  " in listed.stdout and "broken can't be read" in listed.stderr
    assert "no suite 'nobody'" in call("check", "nobody").stderr


def test_check_passes_a_good_suite_and_names_a_bad_file(suite_file: Path, own_suite: Path, home: Path) -> None:
    good = call("check", suite_file)
    assert good.exit_code == 0 and "0 problems" in good.stdout
    (own_suite / "digits.safetensors").write_bytes(b"nonsense")
    bad = call("check", own_suite)
    assert bad.exit_code == 1 and "ERROR  digits.safetensors" in bad.stdout and "1 problem," in bad.stdout


def test_a_folder_is_made_a_suite_and_checked(own_suite: Path) -> None:
    refused = call("init-suite", own_suite)
    assert refused.exit_code == 1 and "--force" in refused.stderr and refused.stdout == ""
    (own_suite / "broken.pt").write_bytes(b"nonsense")
    made = call("init-suite", own_suite, "--force", "--name", "mine")
    assert made.exit_code == 0, made.stderr
    for line in ("base: base.safetensors", "task roads: roads.safetensors, roads.head.safetensors, roads.npz"):
        assert line in made.stdout.splitlines()
    assert "left out: broken.pt: " in made.stdout and "0 problems" in made.stdout
    found = as_json("init-suite", own_suite, "--force")
    assert [task["name"] for task in found["suite"]["tasks"]] == list(TASKS)
    assert found["check"]["problems"] == 0 and set(found["left_out"]) == {"broken.pt"}
    (own_suite / "roads.npz").write_bytes(b"nonsense")
    damaged = call("init-suite", own_suite, "--force")
    assert damaged.exit_code == 1 and "ERROR  roads.npz (test)" in damaged.stdout


@pytest.mark.kernels
def test_similarity_reports_cosines_before_and_after(suite_file: Path, home: Path) -> None:
    report = as_json("similarity", suite_file, "--edit", "awd", "--set", "edit.solver=exact", "--home", home)
    assert tuple(report["tasks"]) == TASKS and len(report["norms"]) == len(TASKS)
    assert report["after"]["mean_abs"] <= report["before"]["mean_abs"]
    awd = report["awd"]
    assert awd["objective_after"] <= awd["objective_before"] == pytest.approx(report["before"]["mean_abs"])
    expected = [1 - len(TASKS) * a for a in awd["coefficients"]]
    assert awd["task_multipliers"] == pytest.approx(expected) and awd["redundant_norm"] >= 0


@pytest.mark.parametrize(
    "settings", [("consensus", "edit.threshold=auto"), ("trust_region", "edit.sensitivity=gradient")]
)
def test_similarity_after_an_edit_that_looks_at_images(suite_file: Path, home: Path, settings: tuple[str, str]) -> None:
    edit, setting = settings
    report = as_json("similarity", suite_file, "--edit", edit, "--set", setting, "--home", home)
    assert report["after"]["norms"] != report["before"]["norms"]


def test_similarity_of_chosen_tasks_prints_a_table(suite_file: Path, home: Path) -> None:
    result = call("similarity", suite_file, "--tasks", "roads,digits", "--home", home)
    assert result.exit_code == 0 and "roads" in result.stdout and "circles" not in result.stdout


def test_merge_writes_weights_that_evaluate_to_the_reported_accuracy(suite_file: Path, home: Path) -> None:
    output = home / "merged.safetensors"
    merged = as_json(
        "merge",
        suite_file,
        "--merge",
        "task_arithmetic",
        "--set",
        "merge.scaling=0.4",
        "--evaluate",
        "--output",
        output,
        "--home",
        home,
    )
    assert set(merged["accuracy"]) == set(TASKS) and merged["seconds"] > 0 and merged["peak_bytes"] > 0
    assert merged["coefficients"]["table"][0][0] == 0.4
    assert len(merged["coefficients"]["tensors"]) == len(load_file(output))
    again = as_json("evaluate", suite_file, "--checkpoint", output, "--home", home)
    assert again["accuracy"] == merged["accuracy"] and again["split"] == "test" and again["images"] > 0


def test_the_same_merge_is_not_done_twice_but_its_file_is_written(suite_file: Path, home: Path) -> None:
    first, second = home / "first.safetensors", home / "second.safetensors"
    one = as_json("merge", suite_file, "--edit", "ties", "--output", first, "--home", home)
    two = as_json("merge", suite_file, "--edit", "ties", "--output", second, "--home", home)
    assert one["run"] == two["run"] and first.read_bytes()[-1000:] == second.read_bytes()[-1000:]
    linear = as_json("merge", suite_file, "--output", first, "--home", home)
    again = as_json("merge", suite_file, "--output", second, "--home", home)
    assert linear["run"] == again["run"] and first.read_bytes() == second.read_bytes()


def test_a_merge_says_of_models_that_add_nothing_or_count_twice(own_suite: Path, home: Path) -> None:
    assert as_json("merge", own_suite, "--home", home)["warnings"] == []
    (own_suite / "roads.safetensors").write_bytes((own_suite / "base.safetensors").read_bytes())
    half = {name: tensor.half() for name, tensor in load_file(own_suite / "digits.safetensors").items()}
    save_file(half, own_suite / "digits.safetensors")
    save_file({f"visual.{name}": tensor for name, tensor in half.items()}, own_suite / "leaves.safetensors")
    expected = [
        "task 'roads' equals the base model base.safetensors, so adds nothing to the merge",
        "tasks 'digits' and 'leaves' equal each other in all weights, so that one model counts 2 times",
    ]
    assert as_json("merge", own_suite, "--home", home)["warnings"] == expected
    said = call("merge", own_suite, "--home", home)  # from the history now
    assert [line for line in said.stderr.splitlines() if "warning" in line] == [f"warning: {one}" for one in expected]
    assert said.exit_code == 0 and "warning" not in said.stdout


@pytest.mark.parametrize(
    "command",
    [
        ("merge", "{suite}", "--output", "{out}/merged.safetensors"),
        ("leaderboard", "{suite}", "--presets", "average", "--output", "{out}/table.md"),
        ("convert", "{suite}/digits.safetensors", "--output", "{out}/converted"),
        ("runs", "export", "{run}", "{out}/export"),
        ("runs", "compare", "{run}", "{run}", "--html", "{out}/report.html"),
        ("replay", "{home}/export/recipe.yaml", "--suite", "{suite}", "--output", "{out}/again.safetensors"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_nothing_is_done_for_a_folder_that_does_not_exist(
    command: tuple[str, ...], suite_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERGING_HOME", str(home))
    run = as_json("merge", suite_file, "--merge", "average")["run"]
    as_json("runs", "export", run, home / "export")
    out = home / "mistyped" / "folder"
    result = call(*(part.format(suite=suite_file.parent, run=run, out=out, home=home) for part in command))
    assert result.exit_code == 1
    assert "can't be written: 'folder', where it is to be, does not exist; nothing was done" in result.stderr
    assert not out.parent.exists() and len(as_json("runs", "list")["runs"]) == 1


def test_presets_are_pairs_and_settings_change_them(suite_file: Path, home: Path) -> None:
    named = as_json("merge", suite_file, "--preset", "iso_c", "--set", "merge.scaling=1.2", "--home", home)
    spelled = as_json("merge", suite_file, "--merge", "iso_c", "--set", "merge.scaling=1.2", "--home", home)
    assert named["run"] == spelled["run"] and named["coefficients"] is None
    assert call("merge", suite_file, "--preset", "iso_c", "--merge", "average", "--home", home).exit_code == 2
    assert "unknown preset 'x'" in call("merge", suite_file, "--preset", "x", "--home", home).stderr


def test_weights_are_kept_once_and_not_trusted_when_changed(suite_file: Path, home: Path) -> None:
    command = ("merge", suite_file, "--edit", "ties", "--home", home)
    run = as_json(*command, "--output", home / "out.safetensors")["run"]
    assert (home / "runs" / run / "model.safetensors").samefile(home / "out.safetensors")
    as_json(*command, "--output", home / "again.safetensors")
    assert (home / "again.safetensors").read_bytes() == (home / "out.safetensors").read_bytes()
    with (home / "out.safetensors").open("r+b") as file:
        file.write(b"scribbled over")
    result = call(*command, "--output", home / "third.safetensors")
    assert result.exit_code == 1 and "were changed" in result.stderr and not (home / "third.safetensors").exists()


def test_what_is_forgotten_and_what_is_kept_is_reported(suite_file: Path, home: Path) -> None:
    command = ("merge", suite_file, "--tasks", "digits,roads", "--set", "merge.weights=-1,0.5", "--evaluate")
    report = as_json(*command, "--home", home)["forgetting"]
    assert list(report["forgotten"]) == ["digits"] and list(report["added"]) == ["roads"]
    assert set(report["kept"]) == set(TASKS) - {"digits", "roads"}
    lines = call(*command, "--home", home).stdout.splitlines()
    start = lines.index("forgetting: digits subtracted (−0.3), roads added (0.15)")
    names = [line[:17].strip() for line in lines[start + 2 :]]
    assert names == ["digits", "forgotten, mean", "roads", "added, mean", *report["kept"], "kept, mean", "average"]
    kept = report["means"]["kept"]
    assert lines[-2].split()[2:] == [f"{100 * kept['before']:.1f}", "%", f"{100 * kept['after']:.1f}", "%"]
    assert as_json("merge", suite_file, "--evaluate", "--home", home)["forgetting"] is None


def test_the_average_of_a_run_that_forgets_is_that_of_the_other_tasks(suite_file: Path, home: Path) -> None:
    command = ("merge", suite_file, "--tasks", "digits,roads", "--set", "merge.weights=-1,0.5", "--evaluate")
    found = as_json(*command, "--home", home)
    others = [row["after"] for group in ("added", "kept") for row in found["forgetting"][group].values()]
    assert len(others) == len(TASKS) - 1
    average = f"{100 * np.mean(others):.1f} %"
    assert found["average"] == pytest.approx(np.mean(list(found["accuracy"].values())))  # as the schema has it
    printed = call(*command, "--home", home).stdout.splitlines()
    assert average in printed[-1] and "(without tasks to be forgotten; test split, 96 images)" in printed[-1]
    assert [line for line in printed if line.startswith("average")] == printed[-1:]
    listed = call("runs", "list", "--home", home).stdout.splitlines()
    assert listed[1].endswith(f"  {average}*") and listed[2] == "* over the tasks that are not to be forgotten"
    (row,) = as_json("runs", "list", "--home", home)["runs"]
    assert row["forgets"] == ["digits"] and f"{100 * row['remaining']['after']:.1f} %" == average
    as_json("runs", "export", found["run"], home / "export", "--home", home)
    card = (home / "export" / "README.md").read_text()
    assert f"| **{average}** |" in card and "| **average** |" not in card
    assert card.count("| kept |") == 2 and "| digits | forgotten | 24 |" in card


def test_a_run_that_forgets_everything_has_no_average(suite_file: Path, home: Path) -> None:
    command = ("merge", suite_file, "--set", "merge.scaling=-0.5", "--evaluate", "--home", home)
    assert as_json(*command)["forgetting"]["remaining"] is None
    printed = call(*command).stdout.splitlines()
    assert printed[-1] == "no average, as all tasks are to be forgotten (test split, 96 images)"
    assert call("runs", "list", "--home", home).stdout.splitlines()[1].rstrip().endswith("-0.5")


def test_a_run_is_shown_for_reading(suite_file: Path, home: Path) -> None:
    command = ("merge", suite_file, "--edit", "awd", "--set", "merge.scaling=auto", "--evaluate", "--home", home)
    merged = as_json(*command)
    lines = within_100_columns(call("runs", "show", merged["run"][:6], "--home", home))
    assert lines[0] == f"run {merged['run']}  done"
    assert lines[1] == f"AWD + Task Arithmetic, tiny, 4 tasks: {', '.join(TASKS)}"
    said = " ".join(" ".join(lines).split())
    for part in (
        "edit awd (scope = model, solver = descent, alpha = 0.1,",
        "merge task_arithmetic (scaling = auto)",
        f"took {merged['seconds']:.1f} s (preparing ",
        f"peak memory {merged['peak_bytes'] / 1e6:.0f} MB",
        f"fingerprint {merged['fingerprint']}",
        f"λ = {merged['merge']['scaling']:g}, chosen on the validation split",
    ):
        assert part in said
    printed = [line for line in call(*command).stdout.splitlines() if line.endswith("images)") or " %" in line]
    assert lines[-len(printed) :] == printed and printed[-1].startswith("average")
    assert "{" not in said


def test_a_failed_run_is_shown_with_its_last_words(
    suite_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(job: Job, fingerprint: str, site: Site) -> NoReturn:
        site.on_progress(3, 7, "adapting, entropy 2")
        raise CheckpointError("the disk is full")

    monkeypatch.setattr("merging.runs.foreground.carry_out", fail)
    assert call("merge", suite_file, "--home", home).exit_code == 1
    (row,) = as_json("runs", "list", "--home", home)["runs"]
    lines = call("runs", "show", row["run"], "--home", home).stdout.splitlines()
    assert lines[0].endswith("  failed") and lines[-4:-2] == ["error: the disk is full", "last lines of its output:"]
    assert lines[-2].startswith("  ") and lines[-2].endswith(" adapting, entropy 2 (3/7)")
    assert lines[-1] == f"`merging runs again {row['run'][:6]}` queues it again"
    shown = as_json("runs", "show", row["run"], "--home", home)
    assert shown["log"].endswith("adapting, entropy 2 (3/7)") and shown["error"] == "the disk is full"


def test_localised_models_are_written_measured_and_exported(suite_file: Path, home: Path) -> None:
    output = home / "tall.safetensors"
    command = ("merge", suite_file, "--merge", "tall_masks", "--evaluate", "--home", home)
    made = as_json(*command, "--output", output)
    assert made["merge"]["storage"]["localised"] < made["merge"]["storage"]["models"]
    again = as_json("evaluate", suite_file, "--checkpoint", output, "--home", home)
    assert again["accuracy"] == made["accuracy"] and again["images"] == made["images"]
    printed = call(*command).stdout
    assert "4 models, one a task: base" in printed and "the base and 4 fine-tuned models take" in printed


def test_the_code_on_an_exported_page_rebuilds_a_model(
    suite_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = as_json("merge", suite_file, "--merge", "tall_masks", "--home", home)["run"]
    as_json("runs", "export", run, home / "export", "--home", home)
    (home / "export" / "base.safetensors").symlink_to(suite_file.parent / "base.safetensors")
    monkeypatch.chdir(home / "export")
    page = Path("README.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    assert "is not one model" in page and not Path("classify.py").exists()
    found: dict[str, Any] = {}
    exec(code.replace("the task's name", "roads"), found)
    assert found["weights"].keys() == load_file("base.safetensors").keys()


def test_per_task_scaling_and_automatic_scaling(suite_file: Path, home: Path) -> None:
    forget = as_json("merge", suite_file, "--set", "merge.scaling=1,-0.5,0,0.25", "--home", home)
    assert [row[0] for row in forget["coefficients"]["table"]] == [1, -0.5, 0, 0.25]
    chosen = as_json("merge", suite_file, "--set", "merge.scaling=auto", "--home", home)
    assert chosen["merge"]["scaling"] in chosen["merge"]["scaling_search"]["scalings"]


def test_runs_are_listed_shown_and_exported(suite_file: Path, home: Path) -> None:
    assert "no runs yet" in call("runs", "list", "--home", home).stdout
    run = as_json("merge", suite_file, "--evaluate", "--home", home)["run"]
    assert as_json("runs", "list", "--home", home)["runs"][0]["state"] == "done"
    assert as_json("runs", "show", run[:6], "--home", home)["spec"]["merge"] == "task_arithmetic"
    files = [Path(file).name for file in as_json("runs", "export", run, home / "export", "--home", home)["files"]]
    assert files == [
        "README.md",
        "classify.py",
        "coefficients.csv",
        "config.json",
        "heads.safetensors",
        "model.safetensors",
        "recipe.yaml",
    ]
    assert "Task Arithmetic" in (home / "export" / "README.md").read_text()


def test_base_and_individual_accuracy(suite_file: Path, home: Path) -> None:
    base = as_json("evaluate", suite_file, "--base", "--split", "val", "--home", home)
    own = as_json("evaluate", suite_file, "--individual", "--split", "val", "--home", home)
    assert base["split"] == own["split"] == "val" and set(base["accuracy"]) == set(own["accuracy"]) == set(TASKS)


def within_100_columns(result: Result) -> list[str]:
    """The lines of a successful command."""
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    return lines


def test_methods_as_text_say_all_that_the_json_does() -> None:
    lines = within_100_columns(call("methods"))
    said = re.sub(r"\s+", " ", " ".join(lines))
    found = as_json("methods")
    for row in found["edits"] + found["merges"]:
        assert f"{row['title']}: {row['summary']}" in said and row["paper"] in said
        for parameter in row["parameters"]:
            assert f"{parameter['type']}" in said and parameter["description"] in said
    assert "alpha = 0.1 number, at least 0, at most 10 Weight of the norm" in said
    assert "beta = 0.01 number, above 0, at most 10" in said and "drop = 0.5 number, at least 0, below 1" in said
    assert "clamp = true boolean" in said
    assert "data needed: unlabeled, https://arxiv.org/abs/2310.02575" in said
    for preset in found["presets"]:
        assert f"{preset['title']}: {preset['edit']}" in said and preset["note"].rstrip(".") in said
    assert "consensus (threshold = auto, total = ties) + task_arithmetic (scaling = auto)" in said


def test_similarity_as_text_has_norms_and_multipliers(suite_file: Path, home: Path) -> None:
    command = ("similarity", suite_file, "--edit", "awd", "--home", home)
    report = as_json(*command)
    lines = within_100_columns(call(*command))
    start = next(number for number, line in enumerate(lines) if line.startswith("task "))
    for number, task in enumerate(TASKS):
        name, norm, after, multiplier = lines[start + 1 + number].split()
        assert (name, norm) == (task, f"{report['norms'][number]:.4f}")
        assert after == f"{report['after']['norms'][number]:.4f}"
        assert multiplier == f"{report['awd']['task_multipliers'][number]:.4f}"
    awd = report["awd"]
    assert any(
        line.startswith(f"objective {awd['objective_before']:.4f} → {awd['objective_after']:.4f}") for line in lines
    )
    layered = call(*command, "--set", "edit.scope=layer").stdout
    assert " … " in layered and "tensor by tensor" in layered
    plain = call("similarity", suite_file, "--home", home).stdout
    assert "norm after" not in plain and "× in a sum" not in plain and f"{report['norms'][0]:.4f}" in plain


@pytest.mark.kernels
@pytest.mark.parametrize(("settings", "rises"), [("edit.solver=adam", True), ("edit.solver=exact", False)])
def test_similarity_says_where_awd_made_it_worse(suite_file: Path, home: Path, settings: str, rises: bool) -> None:
    command = ("similarity", suite_file, "--edit", "awd", "--set", settings, "--home", home)
    awd = as_json(*command)["awd"]
    assert rose(awd["objective_before"], awd["objective_after"]) == rises
    assert ("the objective rose: take a smaller step size" in call(*command).stdout) == rises


@pytest.mark.parametrize(("rise", "said"), [(1e-16, False), (1e-7, False), (1e-3, True)])
def test_what_rounding_adds_to_an_objective_is_no_rise(
    capsys: pytest.CaptureFixture[str], rise: float, said: bool
) -> None:
    side = {"mean_abs": 0.3, "cosine": [[1.0, 0.3], [0.3, 1.0]], "norms": [1.0, 1.0]}
    awd = {"objective_before": 0.3, "objective_after": 0.3 + rise, "redundant_norm": 0.0, "task_multipliers": None}
    print_similarity({"tasks": ["a", "b"], "before": side, "after": side, "norms": [1.0, 1.0], "awd": awd}, "awd")
    assert ("the objective rose" in capsys.readouterr().out) == said


def test_a_matrix_of_many_tasks_is_numbered(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"task number {number}" for number in range(12)]
    print_matrix("title", names, np.eye(12).tolist())
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100 + 3
    assert lines[1].split() == [str(number) for number in range(1, 13)]
    assert lines[-1].startswith("12 task number 11")
    print_matrix("title", names[:2], np.eye(2).tolist())
    assert "task number 0" in capsys.readouterr().out.splitlines()[1]


def test_runs_as_text_have_suite_and_scaling(suite_file: Path, home: Path) -> None:
    for settings in (("merge.scaling=0.4",), ("merge.scaling=auto",), ("merge.scaling=1,0,0.5,1",)):
        call("merge", suite_file, "--evaluate", "--set", *settings, "--home", home)
    call("merge", suite_file, "--merge", "average", "--home", home)
    header, *lines = within_100_columns(call("runs", "list", "--home", home))
    assert header.split() == ["run", "queued", "at", "state", "method", "suite", "tasks", "λ", "average"]
    rows = as_json("runs", "list", "--home", home)["runs"]
    for line, row in zip(lines, rows, strict=True):
        assert row["run"] in line and row["label"] in line and f" {row['suite']} " in line and row["suite"] == "tiny"
    chosen = rows[2]["scaling_chosen"]
    assert rows[2]["scaling"] == "auto" and f" {chosen:g} (val) " in lines[2]
    assert " per task " in lines[1] and " 0.4 " in lines[3] and lines[0].endswith("  4")


def test_unreadable_runs_are_listed_and_deleted(suite_file: Path, home: Path) -> None:
    old = as_json("merge", suite_file, "--home", home)["run"]
    new = as_json("merge", suite_file, "--merge", "average", "--home", home)["run"]
    with sqlite3.connect(home / "runs.sqlite") as connection:
        connection.execute("update runs set spec = replace(spec, 'task_arithmetic', 'gone') where id = ?", (old,))
    connection.close()
    listed = as_json("runs", "list", "--home", home)
    assert [row["run"] for row in listed["runs"]] == [new] and [row["run"] for row in listed["unreadable"]] == [old]
    printed = call("runs", "list", "--home", home).stdout
    assert new in printed and f"\n{old}  unreadable  unknown merge 'gone'; " in printed
    assert max(map(len, printed.splitlines())) <= 100 and "merging runs show ID" in printed
    said = call("runs", "show", old, "--home", home)
    assert said.exit_code == 1 and "name its file with --methods" in said.stderr and old in said.stderr
    assert as_json("runs", "delete", old[:6], "--home", home) == {"deleted": old}
    assert call("runs", "delete", new, "--home", home).stdout.startswith(f"deleted: {new}; for a day")
    assert as_json("runs", "list", "--home", home) == {"runs": [], "matching": 0, "all": 0, "unreadable": []}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["merge", "{suite}", "--merge", "nonsense"], "unknown merge 'nonsense'"),
        (["merge", "{suite}", "--edit", "awd", "--set", "edit.alpha=-1"], "alpha"),
        (["merge", "{suite}", "--set", "scaling=1"], "expected edit.NAME=VALUE or merge.NAME=VALUE"),
        (["merge", "{suite}", "--set", "merge.scaling=[1,2]"], "2 coefficients for 4 tasks"),
        (["merge", "{suite}", "--tasks", "digits,nonsense"], "no task 'nonsense'"),
        (["merge", "{suite}", "--tasks", "digits,digits"], "named twice"),
        (["merge", "{suite}", "--device", "cuda:99"], "cuda:99"),
        (["merge", "{suite}", "--device", "abacus"], "unknown device 'abacus'"),
        (
            ["merge", "{suite}", "--set", "merge.scaling=much"],
            "merge.scaling = 'much': must be a number or a list or 'auto'",
        ),
        (["merge", "{suite}", "--output", "{home}/merged.pt"], ".safetensors"),
        (["merge", "{suite}", "--output", "{suite}/merged.safetensors"], "can't be written"),
        (["merge", "/nowhere/suite.yaml"], "no suite"),
        (["runs", "show", "ffffff"], "no run 'ffffff'"),
        (["evaluate", "{suite}", "--checkpoint", "missing.safetensors"], "no such weight file"),
    ],
)
def test_bad_input_gives_one_clear_error(arguments: list[str], message: str, suite_file: Path, home: Path) -> None:
    filled = [argument.format(suite=suite_file, home=home) for argument in arguments]
    result = call(*filled, "--home", home, "--json")
    assert result.exit_code == 1 and message in result.stderr, result.stderr
    assert result.stdout == "" and "Traceback" not in result.stderr and str(suite_file.parent) not in result.stderr
    assert as_json("runs", "list", "--home", home)["runs"] == []  # nothing was tried


def test_wrong_usage_exits_with_2(suite_file: Path, home: Path) -> None:
    assert call("evaluate", suite_file, "--home", home).exit_code == 2
    options = (
        ("--base", "--individual"),
        ("--individual", "--base"),
        ("--base", "--checkpoint", "f"),
        ("--checkpoint", "f", "--individual"),
        ("--base", "--individual", "--checkpoint", "f"),
    )
    for given in options:
        result = call("evaluate", suite_file, *given, "--home", home)
        assert result.exit_code == 2 and result.stdout == ""
        assert "give exactly one of --base, --individual and --checkpoint FILE; got " in result.stderr


def test_a_missing_checkpoint_is_an_error_and_not_a_task_less(own_suite: Path, home: Path) -> None:
    (own_suite / "roads.safetensors").unlink()
    result = call("merge", own_suite, "--home", home)
    assert result.exit_code == 1 and "roads.safetensors: no such weight file" in result.stderr


def test_evaluating_a_task_without_images_is_refused(own_suite: Path, home: Path) -> None:
    described = yaml.safe_load((own_suite / "suite.yaml").read_text())
    del described["tasks"][1]["data"]
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(described))
    result = call("merge", own_suite, "--evaluate", "--home", home)
    assert result.exit_code == 1 and described["tasks"][1]["name"] in result.stderr
    result = call("merge", own_suite, "--merge", "adamerging", "--home", home)
    assert result.exit_code == 1 and f"{described['tasks'][1]['name']} lack" in result.stderr
    assert as_json("runs", "list", "--home", home)["runs"] == []
    assert as_json("merge", own_suite, "--home", home)["accuracy"] is None


def test_labels_beyond_the_head_are_refused(own_suite: Path, home: Path) -> None:
    described = yaml.safe_load((own_suite / "suite.yaml").read_text())
    del described["tasks"][1]["classes"]
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(described))
    arrays = dict(np.load(own_suite / described["tasks"][1]["data"]["path"]))
    arrays["test_labels"][3] = 40
    np.savez(own_suite / described["tasks"][1]["data"]["path"], **arrays)
    for command in (["check", own_suite], ["evaluate", own_suite, "--base", "--home", home]):
        result = call(*command)
        assert result.exit_code == 1 and "labels run to 40" in result.stderr + result.stdout


@pytest.mark.parametrize(
    ("vision", "reason"),
    [
        ({"width": 33}, "can't build this architecture"),
        ({"timm_model_name": "no_such_model"}, "can't build"),
        ({"layers": 3}, "not the weights of"),
    ],
)
def test_a_tower_that_cannot_be_built_is_found_before_any_work(
    own_suite: Path, home: Path, vision: dict[str, object], reason: str
) -> None:
    described = yaml.safe_load((own_suite / "suite.yaml").read_text())
    described["architecture"]["vision_cfg"] |= vision
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(described))
    check = call("check", own_suite)
    assert check.exit_code == 1 and check.stdout.count("ERROR") == 1 and reason in check.stdout
    merge = call("merge", own_suite, "--evaluate", "--output", home / "out.safetensors", "--home", home)
    assert merge.exit_code == 1 and reason in merge.stderr and "Traceback" not in merge.stderr
    assert not (home / "out.safetensors").exists()


def test_broken_images_are_found_before_weights_are_written(own_suite: Path, home: Path) -> None:
    described = yaml.safe_load((own_suite / "suite.yaml").read_text())
    (own_suite / described["tasks"][2]["data"]["path"]).write_bytes(b"no archive")
    result = call("merge", own_suite, "--evaluate", "--output", home / "out.safetensors", "--home", home)
    assert result.exit_code == 1 and "not a readable .npz" in result.stderr
    assert not (home / "out.safetensors").exists()


def test_an_obstructed_export_is_an_error_in_words_and_leaves_nothing(suite_file: Path, home: Path) -> None:
    run = as_json("merge", suite_file, "--home", home)["run"]
    (home / "out" / "recipe.yaml").mkdir(parents=True)
    result = call("runs", "export", run, home / "out", "--home", home)
    assert result.exit_code == 1 and "recipe.yaml: can't be written" in result.stderr
    assert [path.name for path in (home / "out").iterdir()] == ["recipe.yaml"]


def test_names_are_plain_text_in_an_exported_page(own_suite: Path, home: Path) -> None:
    described = yaml.safe_load((own_suite / "suite.yaml").read_text())
    described["tasks"][1]["name"] = "<script>alert(1)</script> | ![x](y)"
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(described))
    run = as_json("merge", own_suite, "--evaluate", "--home", home)["run"]
    call("runs", "export", run, home / "out", "--home", home)
    page = (home / "out" / "README.md").read_text()
    assert "<script>" not in page and "![x]" not in page and "\\<script\\>" in page


def test_a_broken_base_is_reported_once(own_suite: Path, home: Path) -> None:
    (own_suite / "base.safetensors").write_bytes(b"broken")
    result = call("check", own_suite)
    assert result.exit_code == 1 and result.stdout.count("ERROR") == 1, result.stdout


def test_task_names_with_commas_can_be_quoted(own_suite: Path, home: Path) -> None:
    described = yaml.safe_load((own_suite / "suite.yaml").read_text())
    described["tasks"][1]["name"] = "roads, wet"
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(described))
    found = as_json("similarity", own_suite, "--tasks", '"roads, wet", circles', "--home", home)
    assert found["tasks"] == ["roads, wet", "circles"]


def test_the_room_for_images_comes_from_option_or_environment(
    suite_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    load_images = evaluation.load_images
    monkeypatch.setattr(evaluation, "load_images", lambda *given: seen.append(given[-1]) or load_images(*given))
    command = ["evaluate", str(suite_file), "--base", "--tasks", "roads", "--home", str(home)]
    for options, environment in (([], {}), (["--image-cache-gb", "0.5"], {}), ([], {"MERGING_IMAGE_CACHE_GB": "2"})):
        assert CliRunner().invoke(main, [*options, *command], env=environment).exit_code == 0
    assert list(dict.fromkeys(seen)) == [20 * 2**30, 2**29, 2**31]
    assert CliRunner().invoke(main, command, env={"MERGING_IMAGE_CACHE_GB": "plenty"}).exit_code == 2


def test_runs_alone_lists_those_of_the_home_that_was_named(suite_file: Path, home: Path) -> None:
    named: list[tuple[list[str], dict[str, str]]] = [(["--home", str(home)], {}), ([], {"MERGING_HOME": str(home)})]
    for options, environment in named:
        assert "no runs yet" in CliRunner().invoke(main, ["runs", *options], env=environment).stdout
    run = as_json("merge", suite_file, "--home", home)["run"]
    for options, environment in named:
        assert run in CliRunner().invoke(main, ["runs", *options], env=environment).stdout
    assert [row["run"] for row in as_json("runs", "--home", home)["runs"]] == [run]
    assert "No such command 'lists'" in call("runs", "lists").stderr and "Commands:" in call("runs", "--help").stdout


def test_a_command_of_a_group_that_is_asked_for_alone_is_told_where_it_is() -> None:
    assert "No such command 'export'. Did you mean 'merging runs export'?" in call("export").stderr
    assert call("explode").stderr.endswith("No such command 'explode'.\n")


def test_a_folder_that_cannot_be_made_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = call("runs", "list", "--home", tmp_path / "file" / "home")
    assert result.exit_code == 1 and "can't be created" in result.stderr
