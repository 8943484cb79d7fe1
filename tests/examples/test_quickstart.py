"""The notebook runs from top to bottom in a fresh kernel, and ends with a chart."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.needed_packages import need_packages

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
# A process of its own, as the client's sockets are closed when it ends; nbclient starts the kernel by its interpreter.
RUN = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": "."}}).execute()
nbformat.write(notebook, "executed.ipynb")
"""


def code_cells(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_it_is_kept_without_outputs() -> None:
    cells = code_cells(NOTEBOOK)
    assert len(cells) == 5
    assert not [cell for cell in cells if cell["outputs"] or cell["execution_count"]]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with the package, whose embedded suite has every thirtieth of its images: all take a minute."""
    shutil.copytree(ROOT / "merging", tmp_path / "site" / "merging")
    for path in (tmp_path / "site" / "merging" / "suites" / "mini" / "data").glob("*.npz"):
        with np.load(path) as arrays:
            np.savez(path, **{name: array[::30] for name, array in arrays.items()})
    return tmp_path / "site"


@pytest.mark.timeout(600)
def test_it_goes_from_nothing_to_a_chart(package: Path, tmp_path: Path) -> None:
    need_packages("nbclient", "nbformat", "ipykernel")
    environment = {
        **os.environ,
        "MERGING_HOME": str(tmp_path / "home"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "PYTHONPATH": os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")]),
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(NOTEBOOK)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stderr
    outputs = [cell["outputs"][-1]["data"] for cell in code_cells(tmp_path / "executed.ipynb")[1:]]
    looked, chosen, table, chart = outputs
    assert [trace["type"] for trace in looked["application/vnd.plotly.v1+json"]["data"]] == ["heatmap"] * 3
    assert "".join(chosen["text/plain"]).startswith("(0.")
    assert "Traffic signs" in "".join(table["text/html"])
    assert [trace["name"] for trace in chart["application/vnd.plotly.v1+json"]["data"]] == [
        "Zero-shot",
        "Task Arithmetic",
        "AWD + Task Arithmetic · scope row",
        "Individual",
    ]
