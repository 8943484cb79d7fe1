"""Examples in docstrings run, and the package keeps the promises of its own documentation."""

import ast
import doctest
import importlib
import re
import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import merging
from merging.core import errors
from merging.evaluation import evaluator
from merging.suites.images.suite_images import ImageSet, load_images

ROOT = Path(merging.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
WITH_EXAMPLES = [path for path in FILES if ">>> " in path.read_text()]
# Also the one place that asks which folders for runs and methods the user has chosen, and who adds to them.
ENTRY_POINTS = ("__main__.py", "cli/dashboard.py", "cli/options.py", "runs/worker/serve.py", "core/places.py")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


def eighth(images: ImageSet) -> ImageSet:
    """One of eight images, as of all of them the examples take their time."""
    return replace(images, pixels=images.pixels[::8], labels=images.labels[::8])


def test_there_are_examples() -> None:
    assert len(WITH_EXAMPLES) >= 2


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=module_name)
def test_examples_in_docstrings(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERGING_HOME", str(tmp_path))
    monkeypatch.setattr(evaluator, "load_images", lambda *given: eighth(load_images(*given)))
    result = doctest.testmod(importlib.import_module(module_name(path)))
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_the_package_knows_no_user_interface_and_no_environment_and_loads_nothing_that_runs(path: Path) -> None:
    """Nothing in it imports streamlit; only entry points print or read the environment, one module asks for devices."""
    nodes, text = list(ast.walk(tree_of(path))), path.read_text()
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert not any(name.split(".")[0] == "streamlit" for name in imported)
    if path.name != "devices.py":
        assert not re.search(r"(cuda|mps)\.(is_available|device_count)", text)
    calls = [(node, ast.unparse(node.func)) for node in nodes if isinstance(node, ast.Call)]
    for call, name in calls:
        if name == "torch.load":
            assert any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in call.keywords)
    if path.relative_to(ROOT).as_posix() in ENTRY_POINTS:
        return
    forbidden = {"print", "os.getenv", "os.environ.get", "input", "eval", "exec", "pickle.load", "pickle.loads"}
    assert not {name for _, name in calls} & forbidden
    if "os.environ" in text or "sys.argv" in text:
        attributes = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
        assert not attributes & {"os.environ", "sys.argv"}


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    """The drawing in the module's docstring names every class under its parent."""
    parents: dict[int, str] = {}
    drawn: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^([\s│├└─]*)([A-Z][A-Za-z]+)(\s|$)", line)
        if match and hasattr(errors, match[2]):
            depth = len(match[1]) // 4 - 1
            parents[depth] = match[2]
            drawn[match[2]] = parents.get(depth - 1, "")
    classes = {name: item for name, item in vars(errors).items() if isinstance(item, type)}
    assert drawn.keys() == classes.keys()
    for name, item in classes.items():
        assert drawn[name] == (item.__base__.__name__ if name != "MergingError" else "")


def test_names_offered_exist() -> None:
    for path in FILES:
        if path.name == "__init__.py":
            module = importlib.import_module(module_name(path))
            for name in getattr(module, "__all__", ()):
                assert hasattr(module, name)


def test_make_mutants_finds_its_modules_and_their_tests() -> None:
    settings = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["tool"]["mutmut"]
    named = settings["only_mutate"] + settings["pytest_add_cli_args_test_selection"]
    assert [path for path in named if not (ROOT.parent / path).exists()] == []
