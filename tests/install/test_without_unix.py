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
from merging.runs.jobs import MergeSpec
from merging.runs.workspace import Workspace

ROOT = Path(__file__).parents[2]
HIDING = """
import os, sys
for name in ("fcntl", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("fork", "forkpty", "setsid", "setpgid", "killpg", "getpgid", "getuid", "geteuid"):
    if hasattr(os, name):
        delattr(os, name)
"""
IMPORT_ALL = """
import importlib, os, pkgutil, sys
import merging
names = [found.name for found in pkgutil.walk_packages(merging.__path__, "merging.")]
for name in names:
    importlib.import_module(name)
assert sys.modules["fcntl"] is None and not hasattr(os, "fork")
print(len(names))
"""


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """The environment of processes that lack it all."""
    (tmp_path / "hiding").mkdir()
    (tmp_path / "hiding" / "sitecustomize.py").write_text(HIDING)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MERGING_")}
    path = os.pathsep.join([str(tmp_path / "hiding"), str(ROOT)])
    return {**kept, "PYTHONPATH": path, "MERGING_HOME": str(tmp_path / "home")}


def python(variables: dict[str, str], *arguments: str) -> str:
    """What a Python without all that prints."""
    done = subprocess.run([sys.executable, *arguments], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_can_be_imported(variables: dict[str, str]) -> None:
    assert int(python(variables, "-c", IMPORT_ALL)) > 100


def test_the_command_line_works(variables: dict[str, str], suite_file: Path, tmp_path: Path) -> None:
    def merging(*arguments: str) -> str:
        return python(variables, "-m", "merging", *arguments)

    assert merging("--version") == f"merging {__version__}\n"
    assert "awd" in {row["name"] for row in json.loads(merging("methods", "--json"))["edits"]}
    some = ("--tasks", "digits,leaves", "--device", "cpu")
    found = json.loads(merging("merge", str(suite_file), *some, "--edit", "ties", "--evaluate", "--json"))
    assert set(found["accuracy"]) == {"digits", "leaves"}
    workspace = Workspace(tmp_path / "home")
    choices = {"suite": str(suite_file), "tasks": ("digits", "leaves"), "device": "cpu"}
    queued = workspace.submit(MergeSpec.build(**choices, merge="average"))
    merging("worker", "--once")
    assert workspace.store.get(queued.id).state == "done"
    assert "merging.runs" not in (workspace.store.folder(queued.id) / "log.txt").read_text()  # no traceback


def test_a_sweep_is_driven(variables: dict[str, str], suite_file: Path, tmp_path: Path) -> None:
    definition = {
        "suite": str(suite_file),
        "tasks": [["digits", "leaves"]],
        "device": "cpu",
        "merges": {"task_arithmetic": {"scaling": [0.3]}},
    }
    (tmp_path / "sweep.yaml").write_text(json.dumps(definition))
    found = json.loads(python(variables, "-m", "merging", "sweep", str(tmp_path / "sweep.yaml"), "--json"))
    assert found["state"] == "done"
