"""The dashboard's own server reads Streamlit's settings as Streamlit's command line does; examples elsewhere hold."""

import doctest
from types import ModuleType

import pytest

from ui.look import figure
from ui.shell import serve
from ui.shell.poll import address
from ui.suites import words


@pytest.mark.parametrize("module", [serve, address, figure, words])
def test_examples(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ([], {}),
        (["--server.baseUrlPath", "lab/merging"], {"server.baseUrlPath": "lab/merging"}),
        (["--server.address=0.0.0.0", "--server.port", "80"], {"server.address": "0.0.0.0", "server.port": 80}),
        (["--server.headless", "false"], {"server.headless": False}),
    ],
)
def test_settings(words: list[str], settings: dict[str, object]) -> None:
    assert serve.settings_of(words) == settings
