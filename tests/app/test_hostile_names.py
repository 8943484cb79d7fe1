"""A suite whose every text is markup: pages show it letter by letter, without links, pictures or icons."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Dataframe, Multiselect, Selectbox

from tests.app.conftest import build_suite

EVIL = "https://evil.example/x www.evil.example a@evil.example :material/home: **bold** [a](https://evil.example) ![]"
MARKUP = ("https://evil", "www.evil", "a@evil", ":material/home:", "**bold**", "](", "![]")
_PLAIN = (Selectbox, Multiselect, Dataframe)  # what streamlit shows as text by itself


@pytest.fixture
def hostile(suites_folder: Path) -> Path:
    path = build_suite(suites_folder / "hostile")
    content = yaml.safe_load(path.read_text())
    content |= {"title": EVIL, "description": EVIL, "licence": EVIL}
    for entry in content["tasks"]:
        entry |= dict.fromkeys(("title", "description", "source", "licence"), f"{entry['name']} {EVIL}")
        entry["classes"] = [f"{number} {EVIL}" for number in range(len(entry.get("classes") or [0] * 5))]
    path.write_text(yaml.safe_dump(content))
    return path


def shown(app: AppTest) -> list[str]:
    """The text of every element whose text streamlit reads as markdown, headings and labels of widgets included."""
    found = []
    for part in (app.main, app.sidebar):
        for element in part:
            proto = getattr(element, "proto", None)
            if proto is not None and not isinstance(element, _PLAIN) and element.type != "plotly_chart":
                found.append(str(proto))
    return [text for text in found if not text.startswith("imgs ")]  # their `alt` is text


def test_texts_from_files_stay_text(hostile: Path, open_page: Callable[..., AppTest]) -> None:
    for page in ("start", "task_models", "what_if", "add_suite"):
        app = open_page(page)
        assert not app.exception, page
        texts = shown(app)
        assert any("evil" in text for text in texts), page
        assert [(mark, text) for text in texts for mark in MARKUP if mark in text] == [], page
