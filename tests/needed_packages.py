"""Tests that need a package of requirements-dev.txt which an older environment lacks: skipped, or failed."""

import importlib.util
import os

import pytest


def need_packages(*names: str) -> None:
    """Skip the test if a package is missing; with ``REQUIRE_PACKAGES`` set, as in CI, fail instead."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if not missing:
        return
    reason = f"{', '.join(missing)} not installed; python -m pip install -r requirements-dev.txt"
    if os.environ.get("REQUIRE_PACKAGES"):
        pytest.fail(reason)
    pytest.skip(reason)
