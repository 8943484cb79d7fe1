"""The package on a Python without what only Unix has: it imports, merges, and carries out queued runs and sweeps.

A stand-in for Windows, which nobody has tried: ``fcntl`` can't be imported, and ``os`` has neither ``fork`` nor
sessions and process groups. A ``sitecustomize`` hides them, so that processes started by processes lack them, too.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from merging import __version__
from merging.runs.workspace import Workspace
from merging.sweeps import SweepDefinition

ROOT = Path(__file__).parents[2]
HIDING = """
import os, sys
for name in ("fcntl", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("fork", "forkpty", "setsid", "setpgid", "killpg", "getpgid", "getuid", "geteuid"):
    if hasattr(os, name):
        delattr(os, name)
"""
IN_ONE_PROCESS = """
import importlib, os, pkgutil, sys
import click.testing
import merging
names = [found.name for found in pkgutil.walk_packages(merging.__path__, "merging.")]
for name in names:
    importlib.import_module(name)
assert sys.modules["fcntl"] is None and not hasattr(os, "fork") and len(names) > 100
from merging.cli import main
for line in sys.stdin.read().splitlines():
    done = click.testing.CliRunner().invoke(main, line.split("\t"))
    assert done.exit_code == 0, (line, done.output, done.exception)
    sys.__stdout__.write(done.stdout)
"""


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """The environment of processes that lack it all."""
    (tmp_path / "hiding").mkdir()
    (tmp_path / "hiding" / "sitecustomize.py").write_text(HIDING)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MERGING_")}
    path = os.pathsep.join([str(tmp_path / "hiding"), str(ROOT)])
    return {**kept, "PYTHONPATH": path, "MERGING_HOME": str(tmp_path / "home")}


def python(variables: dict[str, str], *arguments: str, typed: str = "") -> str:
    """What a Python without all that prints."""
    done = subprocess.run([sys.executable, *arguments], env=variables, input=typed, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_is_imported_and_commands_work(
    variables: dict[str, str], suite_file: Path, tmp_path: Path
) -> None:
    """Merges, a queued run, and a sweep that is driven, in one process: loading it all takes longer than doing it.

    The run is the sweep's trial, and one of the merges what the sweep measures at its end, as every run that a worker
    starts loads it all again here.
    """
    assert python(variables, "-m", "merging", "--version") == f"merging {__version__}\n"
    fields = {"suite": str(suite_file), "tasks": [["digits", "leaves"]], "device": "cpu"}
    definition = SweepDefinition.model_validate({**fields, "merges": {"task_arithmetic": {"scaling": [0.3]}}})
    (tmp_path / "sweep.yaml").write_text(definition.to_yaml())
    workspace = Workspace(tmp_path / "home")
    settings = {"edit": "none", "merge": "task_arithmetic", "merges.task_arithmetic.scaling": 0.3}
    queued = workspace.submit(definition.spec(("digits", "leaves"), settings))
    merge = ("merge", str(suite_file), "--tasks", "digits,leaves", "--device", "cpu", "--evaluate", "--json")
    commands = (
        ("methods", "--json"),
        (*merge, "--edit", "ties"),
        (*merge, "--set", "merge.scaling=0.3"),
        ("worker", "--once"),
        ("sweep", str(tmp_path / "sweep.yaml"), "--json"),
    )
    said = python(variables, "-c", IN_ONE_PROCESS, typed="\n".join("\t".join(words) for words in commands))
    methods, edited, plain, swept = (json.loads(line) for line in said.splitlines())
    assert "awd" in {row["name"] for row in methods["edits"]}
    assert set(edited["accuracy"]) == {"digits", "leaves"} and swept["state"] == "done"
    assert workspace.store.get(queued.id).state == "done"
    assert "merging.runs" not in (workspace.store.folder(queued.id) / "log.txt").read_text()  # no traceback
    assert swept["best"][0]["test"] == plain["average"] and len(workspace.store.all()) == 3
