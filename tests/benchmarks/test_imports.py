"""What measures and what makes pages of docs goes on finding what it uses in the package."""

import importlib
import pkgutil

import pytest

import benchmarks
import studies

MODULES = [
    found.name
    for package in (benchmarks, studies)
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_can_be_imported(name: str) -> None:
    importlib.import_module(name)
