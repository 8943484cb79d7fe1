"""What earlier versions exported keeps working: the code in model cards, and recipes.

``former/`` holds cards and recipes as they were written when the package had other modules, of merges of ``mini``.
"""

import ast
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import merging
from merging.evaluation import evaluator
from merging.suites import load_suite
from merging.suites.images.suite_images import ImageSet, load_images

FORMER = Path(__file__).with_name("former")
EXPORTS = sorted(folder.name for folder in FORMER.iterdir())


def code_of(export: str) -> str:
    """The Python that a card tells its readers to run."""
    (code,) = re.findall(r"```python\n(.*?)```", (FORMER / export / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


def eighth(images: ImageSet) -> ImageSet:
    return replace(images, pixels=images.pixels[::8], labels=images.labels[::8])


def replayed(export: str, folder: Path) -> dict[str, torch.Tensor]:
    """The weights of an old recipe, made again."""
    recipe = FORMER / export / "recipe.yaml"
    found = merging.replay(recipe, folder / "model.safetensors", home=folder / "home")
    # Whether they are the same bit for bit is up to the processor; a recipe made on another says so.
    assert re.fullmatch("[0-9a-f]{64}", found.sha256)
    assert found.identical == (found.sha256 == yaml.safe_load(recipe.read_text())["weights"]["sha256"])
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("export", [name for name in EXPORTS if name != "tall"])
def test_an_old_recipe_gives_weights_near_those_of_its_models(export: str, tmp_path: Path) -> None:
    weights = replayed(export, tmp_path)
    recipe = yaml.safe_load((FORMER / export / "recipe.yaml").read_text())
    suite = load_suite("mini")
    base, tasks = suite.base_checkpoint, recipe["spec"]["tasks"]
    assert weights.keys() == base.keys()
    for name, tensor in weights.items():
        stack = torch.stack([suite.checkpoint(task)[name].float() - base[name].float() for task in tasks])
        assert tensor.shape == base[name].shape and torch.isfinite(tensor.float()).all()
        if "coefficients" not in recipe:
            continue
        row = recipe["coefficients"]["tensors"].index(name)
        coefficients = torch.tensor(np.array(recipe["coefficients"]["table"])[:, row], dtype=torch.float32)
        expected = base[name].float() + torch.einsum("t,t...->...", coefficients, stack)
        torch.testing.assert_close(tensor.float(), expected, rtol=2e-3, atol=2e-3)  # weights are stored in 16 bits


def test_the_code_of_an_old_card_gives_each_tasks_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluator, "load_images", lambda *given: eighth(load_images(*given)))  # which choose thresholds
    code = code_of("tall")
    assert "from merging.checkpoints import open_checkpoint" in code  # a module that is no more
    stored = replayed("tall", tmp_path)
    suite = load_suite("mini")
    shutil.copyfile(suite.path(str(suite.base)), tmp_path / "base.safetensors")
    monkeypatch.chdir(tmp_path)
    for index, task in enumerate(("digits", "letters")):
        space: dict[str, dict[str, torch.Tensor]] = {}
        exec(code.replace("the task's name", task), space)
        for name, base in suite.base_checkpoint.items():
            bits = np.unpackbits(stored[f"masks.{name}"][index].numpy(), count=base.numel()).astype(bool)
            mask = torch.from_numpy(bits).reshape(base.shape)
            moved = (base.float() + stored[f"vector.{name}"].float()).to(base.dtype)
            assert torch.equal(space["weights"][name], torch.where(mask, moved, base))


@pytest.mark.parametrize("export", [name for name in EXPORTS if name != "tall"])
def test_the_code_of_other_cards_needs_nothing_of_this_package(export: str) -> None:
    tree = ast.parse(code_of(export))
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert modules and not [name for name in modules if name.split(".")[0] == "merging"]
    assert code_of(export).strip() == merging_classify().strip()


def merging_classify() -> str:
    """The code that cards show today, without its look at what it is called with; what it does is tested elsewhere."""
    from merging.runs.export.model_card import CLASSIFY

    now = re.compile(r"config = (.*)\nif len\(sys\.argv\).*\n    sys\.exit.*\ntask, image = (.*)\n")
    return now.sub(r"config, task, image = \1, \2\n", CLASSIFY)
