"""What is needed stands in pyproject.toml; the files for ``pip install -r`` say the same."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def lines_of(file: str) -> list[str]:
    """The requirements of a file, those of files that it names among them."""
    found = []
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        if text.startswith("-r "):
            found += lines_of(text.removeprefix("-r "))
        elif text:
            found.append(text)
    return found


def as_table(requirements: list[str]) -> dict[str, str]:
    parsed = [Requirement(text) for text in requirements]
    assert len({each.name for each in parsed}) == len(parsed)
    return {each.name: str(each.specifier) for each in parsed}


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("requirements.txt", PROJECT["dependencies"]),
        ("requirements-cluster.txt", EXTRAS["cluster"]),
        ("requirements-data.txt", EXTRAS["data"]),
        ("requirements-dev.txt", [*PROJECT["dependencies"], *EXTRAS["cluster"], *EXTRAS["dev"]]),
    ],
)
def test_the_file_says_what_the_project_says(file: str, wanted: list[str]) -> None:
    assert as_table(lines_of(file)) == as_table(wanted)


def test_every_requirement_of_an_extra_is_bounded_as_elsewhere() -> None:
    """A package that several extras name has one lower bound, so that no set of extras contradicts itself."""
    bounds: dict[str, str] = {}
    for requirements in (PROJECT["dependencies"], *EXTRAS.values()):
        for name, bound in as_table(requirements).items():
            assert bounds.setdefault(name, bound) == bound
