"""The style sheet: what it speaks of is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_STYLE = (ROOT / "ui/look/style.css").read_text()
_CODE = "\n".join(path.read_text() for folder in ("pages", "ui") for path in sorted((ROOT / folder).rglob("*.py")))


@pytest.mark.parametrize("key", sorted(set(re.findall(r"\.st-key-([\w-]+)", _STYLE))))
def test_a_key_of_which_the_style_speaks_is_given_to_something(key: str) -> None:
    """As a whole, or as the end that is put behind another's key, or the start of several; dots become dashes."""
    code = _CODE.replace(".", "-")
    dashes = [place for place, letter in enumerate(key) if letter == "-"]
    parts = [f'"{key}"', *(f'}}{key[place:]}"' for place in dashes), *(f'"{key[: place + 1]}{{' for place in dashes)]
    assert any(part in code for part in parts), f"nothing has the key {key!r}"


@pytest.mark.parametrize("start", sorted(set(re.findall(r'class\*="st-key-([\w-]+)"', _STYLE))))
def test_so_is_the_start_of_a_key(start: str) -> None:
    assert f'"{start}{{' in _CODE
