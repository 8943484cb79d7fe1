"""The wheel holds what the package needs at run time, and nothing else; from it everything works outside a checkout."""

import json
import os
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest

from merging import __version__
from tests.dashboard import free_port, wait_until_healthy
from tests.needed_packages import need_packages
from tests.waiting import PATIENCE
from tests.websocket import visiting

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from the working tree as ``pip install .`` does."""
    need_packages("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel unpacked, as pip leaves it in site-packages."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def environment(installed: Path, home: Path) -> dict[str, str]:
    """Variables for a process that finds the installed package, of a user without any settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MERGING_")}
    return {**kept, "PYTHONPATH": str(installed), "XDG_DATA_HOME": str(home), "HOME": str(home)}


def python(installed: Path, folder: Path, *arguments: str) -> str:
    """What a Python that has the installed package prints, run in an empty folder."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(installed, folder / "data"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_every_file_that_is_needed_at_run_time(wheel: Path) -> None:
    git = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = git.stdout.splitlines()
    package = {name for name in listed if name.startswith("merging/") and (ROOT / name).is_file()}
    dashboard = {
        f"merging/_app/{name}"
        for name in listed
        if name.startswith(("pages/", "ui/", ".streamlit/")) or name == "app.py"
        if (ROOT / name).is_file()
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert package | dashboard <= held
    assert len(package) > 100 and len(dashboard) > 50
    assert {name.split("/")[0] for name in held} == {"merging"}  # no tests, studies or `ui` beside other packages
    assert not [name for name in held if name.endswith(".pyc")]


def test_an_editable_installation_copies_nothing_of_the_package(tmp_path: Path) -> None:
    """A copy would be out of date with the next edit, and a folder `merging` would look like the package."""
    need_packages("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel:editable", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        assert [name for name in archive.namelist() if ".dist-info/" not in name] == ["_clip_merging.pth"]


def test_it_brings_a_command_and_says_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entries,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        (metadata,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        assert "merging = merging.__main__:run" in archive.read(entries).decode()
        told = archive.read(metadata).decode()
    assert f"\nVersion: {__version__}\n" in told and "\nRequires-Python: >=3.11\n" in told
    assert "\nRequires-Dist: distributed>=2024.8; extra == 'cluster'\n" in told


def test_the_commands_work_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    """Two of them in one process, which loads torch for longer than both of them take."""
    need_packages("platformdirs")
    assert python(installed, tmp_path, "-m", "merging", "--version") == f"merging {__version__}\n"
    merge = ("merge", "mini", "--tasks", "digits,shapes", "--set", "merge.scaling=0.4", "--evaluate", "--json")
    program = f"from merging.cli import main\nfor words in (('suites', '--json'), {merge}):\n"
    program += "    main(words, standalone_mode=False)"
    suites, merged = map(json.loads, python(installed, tmp_path, "-c", program).splitlines())
    assert [row["name"] for row in suites["suites"] if not row["missing"]] == ["mini", "mini-related"]
    assert set(merged["accuracy"]) == {"digits", "shapes"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]  # nothing is left where one happens to be
    assert list((tmp_path / "data").rglob("runs.sqlite"))
    assert not list(installed.rglob(".merging"))


def test_the_dashboard_starts_from_it_with_its_own_settings_and_draws_its_first_page(
    installed: Path, tmp_path: Path
) -> None:
    need_packages("platformdirs")
    script = installed / "merging" / "_app" / "app.py"
    with script.open("a") as file:
        file.write("\n\nimport streamlit, ui\nstreamlit.caption(f'from {ui.__file__}')\n")
    port = free_port()
    command = [sys.executable, "-m", "merging", "app", "--port", str(port), "--headless"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=environment(installed, tmp_path / "data"), stdout=log, stderr=log
        )
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/_stcore/health", server)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
                assert page.status == 200
            with visiting(f"http://127.0.0.1:{port}", {}) as visitor:
                drawn = visitor.run("start")
        finally:
            server.terminate()
            server.wait(PATIENCE)
    told = (tmp_path / "log").read_text()
    assert f"http://127.0.0.1:{port}" in told  # the address of .streamlit/config.toml, not 0.0.0.0
    assert "Traceback" not in told and not drawn.failures
    assert f"from {script.parent / 'ui' / '__init__.py'}" in drawn.texts
    assert b"Mini CLIP" in drawn.raw
