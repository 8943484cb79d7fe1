"""A tiny random suite in a temporary folder, and the dashboard looking at it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import open_clip
import pytest
import streamlit as st
import torch
import yaml
from safetensors.torch import save_file
from streamlit.testing.v1 import AppTest

from merging.suites import Suite, load_suite

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("apples", "birds", "cars", "doors")
CLASSES = ("one", "two", "three")
ARCHITECTURE = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "mlp_ratio": 2.0},
}


def build_suite(folder: Path, *, images: bool = True, weights: bool = True, tasks: tuple[str, ...] = TASKS) -> Path:
    """Write a suite of random weights that share a direction, random heads and random images; gives its suite.yaml."""
    torch.manual_seed(0)
    text = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
    base = {name: t.clone() for name, t in open_clip.CLIP(**ARCHITECTURE, text_cfg=text).visual.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(base, folder / "base.safetensors")
    shared = {name: 0.01 * torch.randn_like(tensor) for name, tensor in base.items()}
    rng = np.random.default_rng(0)
    described = []
    for task in tasks:
        entry: dict[str, object] = {
            "name": task, "checkpoint": f"{task}.safetensors", "classes": list(CLASSES), "title": task.title(),
            "licence": "CC0", "source": "random numbers",
        }  # fmt: skip
        if weights:
            tuned = {n: t + shared[n] + 0.02 * torch.randn_like(t) for n, t in base.items()}
            save_file(tuned, folder / f"{task}.safetensors")
        if images:
            head = torch.nn.functional.normalize(torch.randn(3, 16), dim=1)
            save_file({"weight": head}, folder / f"{task}-head.safetensors")
            arrays = {}
            for split, count in (("val", 6), ("test", 12)):
                arrays[f"{split}_images"] = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
                arrays[f"{split}_labels"] = np.arange(count) % 3
            np.savez(folder / f"{task}.npz", **arrays)
            entry |= {"head": f"{task}-head.safetensors", "data": {"kind": "arrays", "path": f"{task}.npz"}}
        described.append(entry)
    content = {
        "name": folder.name, "title": f"{folder.name.title()} suite", "architecture": ARCHITECTURE,
        "logit_scale": 10.0, "preprocess": {"mean": [0.5] * 3, "std": [0.5] * 3}, "base": "base.safetensors",
        "tasks": described,
    }  # fmt: skip
    (folder / "suite.yaml").write_text(yaml.safe_dump(content))
    return folder / "suite.yaml"


@pytest.fixture
def suites_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the dashboard searches for suites, with no built-in ones beside it, and an own home."""
    folder = tmp_path / "suites"
    folder.mkdir()
    monkeypatch.setenv("MERGING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MERGING_SUITES", str(folder))
    monkeypatch.setattr("merging.suites.suite.builtin_suites", dict)
    monkeypatch.setattr("ui.state.builtin_suites", dict)
    return folder


@pytest.fixture
def tiny(suites_folder: Path) -> Suite:
    """The suite ``tiny``: four tasks with everything."""
    return load_suite(build_suite(suites_folder / "tiny"))


@pytest.fixture
def open_page(suites_folder: Path) -> Iterator[Callable[..., AppTest]]:
    """A function that opens a page of the dashboard, with query parameters if any."""
    st.cache_data.clear()
    st.cache_resource.clear()

    def opened(page: str | None = None, **query: str | list[str]) -> AppTest:
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
        for name, value in query.items():
            app.query_params[name] = value
        app.run()
        return app if page is None else app.switch_page(f"pages/{page}.py").run()

    yield opened
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture(autouse=True)
def launched_workers(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Homes for which a page wanted a worker; none is really started."""
    homes: list[Path] = []
    monkeypatch.setattr("ui.run_panel._Launcher.ensure", lambda launcher: homes.append(launcher.home))
    return homes


def texts(app: AppTest) -> str:
    """Everything that a page says in words, for tests that look for a sentence."""
    parts = [*app.title, *app.header, *app.subheader, *app.markdown, *app.caption, *app.info, *app.error, *app.warning]
    return "\n".join(str(element.value) for element in parts)
