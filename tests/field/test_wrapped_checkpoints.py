"""Towers inside of what trainings wrap around them: found whatever stands before their names, or refused by name."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from merging.cli import main
from merging.core.errors import CheckpointError
from merging.runs.jobs.check import check_suite
from merging.suites import load_suite
from merging.weights.convert import convert
from merging.weights.files import open_checkpoint
from tests.lightly import open_clip
from tests.random_models import ARCHITECTURE, State, random_tower, write_config, write_yaml

TOWER, OTHER = random_tower(5), random_tower(6)
Module = torch.nn.Module


def clip(tower: State = TOWER) -> Any:
    """A whole CLIP with a text tower of the same width and depth, so that only names tell the two apart."""
    with torch.random.fork_rng():
        text = {"context_length": 4, "vocab_size": 9, "width": 32, "heads": 2, "layers": 2}
        model = open_clip.CLIP(**ARCHITECTURE, text_cfg=text)
    model.visual.load_state_dict(tower)
    return model


def states(module: Module) -> State:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def named(module: Module) -> State:
    """By the names of parameters, which hooks of the state dict don't tidy."""
    return {name: tensor.detach().clone() for name, tensor in module.named_parameters()}


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def each_block(wrap: Callable[[Module], Module]) -> Any:
    model = clip()
    for number, block in enumerate(model.visual.transformer.resblocks):
        model.visual.transformer.resblocks[number] = wrap(block)
    return model


def compiled_tower() -> State:
    model = clip()
    model.visual = torch.compile(model.visual)
    return states(model)


def classifier(**parts: Module) -> State:
    return states(torch.nn.ModuleDict({**parts, "head": torch.nn.Linear(16, 3)}))


def lightning(state: State) -> dict[str, Any]:
    """As the Trainer of Lightning saves: the model beside versions, settings, and the states of optimizer and loops."""
    moments = {number: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)} for number in range(2)}
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}},
        "hyper_parameters": {"lr": 1e-5},
        "optimizer_states": [{"state": moments, "param_groups": [{"lr": 1e-5}]}],
        "optimizer": {"state": moments},
    }


WHOLE = states(clip())
WRAPPED: dict[str, Callable[[], Any]] = {
    "compiled": lambda: states(torch.compile(clip())),
    "compiled tower": compiled_tower,
    "compiled blocks": lambda: states(each_block(torch.compile)),
    "averaged": lambda: states(torch.optim.swa_utils.AveragedModel(clip())),
    "averaged tower alone": lambda: states(torch.optim.swa_utils.AveragedModel(clip().visual)),
    "data parallel and compiled": lambda: states(torch.nn.DataParallel(torch.compile(clip()))),
    "activation checkpointing": lambda: named(each_block(checkpoint_wrapper)),
    "FSDP": lambda: {
        name.replace("visual.", "_fsdp_wrapped_module.visual._fsdp_wrapped_module."): tensor
        for name, tensor in named(each_block(checkpoint_wrapper)).items()
    },
    "backbone and head": lambda: classifier(backbone=clip().visual),
    "head in the tower": lambda: TOWER | under("head.", {"weight": torch.ones(3, 16), "bias": torch.ones(3)}),
    "CoOp": lambda: (
        under("image_encoder.", TOWER)
        | under("text_encoder.", {name: tensor for name, tensor in WHOLE.items() if not name.startswith("visual.")})
        | {"prompt_learner.ctx": torch.ones(4, 32), "logit_scale": torch.tensor(4.6)}
    ),
    "encoder.model.visual": lambda: classifier(encoder=torch.nn.ModuleDict({"model": clip()})),
    "net.clip": lambda: under("net.clip.", WHOLE),
    "Lightning": lambda: lightning(under("model._orig_mod.", WHOLE)),
    "net in a dictionary": lambda: {"net": under("module.", WHOLE), "acc": 81.0},
    "only an average": lambda: {"model_ema": WHOLE, "epoch": 4},
    "dictionaries in dictionaries": lambda: {"checkpoint": {"model": {"encoder": WHOLE}}, "step": 7},
    "the same under two names": lambda: {"state_dict": WHOLE, "model": WHOLE},
    "the same twice": lambda: {"state_dict": WHOLE, "ema": copy.deepcopy(WHOLE)},
    "each tensor with and without wrapper": lambda: WHOLE | under("module.", copy.deepcopy(WHOLE)),
    "TorchScript buffers and scales": lambda: (
        WHOLE | {"logit_bias": torch.tensor(0.0), "input_resolution": torch.tensor(32)}
    ),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_the_tower_is_found_and_converted_to_what_open_clip_loads(tmp_path: Path, kind: str) -> None:
    torch.save(WRAPPED[kind](), tmp_path / "model.pt")
    checkpoint = open_checkpoint(tmp_path / "model.pt")
    assert list(checkpoint) == sorted(TOWER)
    assert all(torch.equal(checkpoint[name], tensor) for name, tensor in TOWER.items())
    written = convert(tmp_path / "model.pt", tmp_path / "out.safetensors")
    assert written.output is not None and written.kind == "model"
    clip(OTHER).visual.load_state_dict(load_file(tmp_path / "out.safetensors"), strict=True)
    assert all(torch.equal(tensor, TOWER[name]) for name, tensor in load_file(tmp_path / "out.safetensors").items())


def test_an_average_that_is_a_list_is_named_with_every_number(tmp_path: Path) -> None:
    """As torch_ema keeps it; a list of what an optimiser knows is none."""
    kept = {"shadow_params": [torch.ones(3), torch.ones(2)], "decay": 0.99}
    optimiser = {"optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}]}
    torch.save({"model": WHOLE, "ema": kept, **optimiser}, tmp_path / "model.pt")
    (note,) = open_checkpoint(tmp_path / "model.pt").notes
    assert "second model, an average of weights, as a list (2 items under 'ema.shadow_params')" in note


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("averaged", "n_averaged"),
        ("data parallel and compiled", "(ln_final.… × 2, logit_scale, "),
        ("backbone and head", "left out 2 tensors (head.… × 2)"),
        ("CoOp", "prompt_learner.ctx"),
        ("Lightning", "optimizer.… × "),
        ("the same twice", "the same weights also under 'state_dict.visual'"),
        ("each tensor with and without wrapper", f"{len(TOWER)} tensors are there twice"),
    ],
)
def test_what_else_is_in_the_file_is_named(tmp_path: Path, kind: str, said: str) -> None:
    torch.save(WRAPPED[kind](), tmp_path / "model.pt")
    assert said in open_checkpoint(tmp_path / "model.pt").summary


# --- several towers --------------------------------------------------------------------------------------------------

SEVERAL: dict[str, tuple[Any, dict[str, State], str]] = {
    "weights and average": (
        {"state_dict": WHOLE, "ema": {"shadow": states(clip(OTHER))}},
        {"state_dict": TOWER, "ema": OTHER, "ema.shadow.visual": OTHER},
        "under 'ema.shadow.visual', 'state_dict.visual'; say which is meant, with `take: NAME` of a task in suite.yaml "
        "or --take NAME of convert and init-suite; the names are ema and state_dict",
    ),
    "student and teacher": (
        under("student.backbone.", TOWER) | under("module.teacher.backbone.", OTHER),
        {"student": TOWER, "teacher": OTHER},
        "under 'student.backbone', 'teacher.backbone'; say which is meant, with `take: NAME` of a task in suite.yaml "
        "or --take NAME of convert and init-suite; the names are student and teacher",
    ),
    "three trainings": (
        {f"run {number}": {"model": under("visual.", random_tower(number))} for number in (1, 2, 3)},
        {f"run {number}": random_tower(number) for number in (1, 2, 3)},
        "under 'run 1.model.visual', 'run 2.model.visual', 'run 3.model.visual'; say which is meant, with `take: NAME` "
        "of a task in suite.yaml or --take NAME of convert and init-suite; the names are run 1, run 2 and run 3",
    ),
    "one without a name": (TOWER | under("ema.", OTHER), {".": TOWER, "ema": OTHER}, "under '.', 'ema'; say which"),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_of_several_towers_the_one_that_is_named_is_taken(tmp_path: Path, kind: str) -> None:
    state, towers, said = SEVERAL[kind]
    path = tmp_path / "model.pt"
    torch.save(state, path)
    with pytest.raises(
        CheckpointError, match=r"^model\.pt: holds several visual towers with different weights"
    ) as seen:
        open_checkpoint(path)
    assert said in str(seen.value)
    prints = set()
    for name, tower in towers.items():
        checkpoint = open_checkpoint(path, take=name)
        assert all(torch.equal(checkpoint[key], tensor) for key, tensor in tower.items())
        assert checkpoint.taken.startswith("" if name == "." else name.split(".")[0])
        prints.add(checkpoint.fingerprint)
    assert len(prints) == said.count("'") // 2  # a run on one is not taken for a run on the other
    with pytest.raises(CheckpointError, match="holds no tower 'last'; its towers: "):
        open_checkpoint(path, take="last")


def test_what_is_taken_stands_in_the_suite_and_on_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    write_config(folder)
    save_file(random_tower(1), folder / "base.safetensors")
    for task, tower in (("cats", TOWER), ("dogs", OTHER)):
        torch.save(
            {"state_dict": under("visual.", random_tower(9)), "ema": under("visual.", tower)}, folder / f"{task}.pt"
        )
    save_file(random_tower(3), folder / "birds.safetensors")
    run = CliRunner().invoke(main, ["init-suite", str(folder), "--json"])
    assert run.exit_code == 0 and [task["name"] for task in json.loads(run.stdout)["suite"]["tasks"]] == ["birds"]
    assert "--take" in json.loads(run.stdout)["left_out"]["cats.pt"]
    assert CliRunner().invoke(main, ["init-suite", str(folder), "--force", "--take", "ema"]).exit_code == 0
    suite = load_suite(folder)
    assert [(task.name, task.take) for task in suite.tasks] == [("birds", None), ("cats", "ema"), ("dogs", "ema")]
    assert torch.equal(suite.checkpoint("dogs")["proj"], OTHER["proj"])
    output = ["--output", str(tmp_path / "out")]
    refused = CliRunner().invoke(main, ["convert", str(folder / "cats.pt"), *output])
    assert refused.exit_code == 1 and "holds several visual towers" in refused.stdout
    assert CliRunner().invoke(main, ["convert", str(folder / "cats.pt"), *output, "--take", "ema"]).exit_code == 0
    assert torch.equal(load_file(tmp_path / "out" / "cats.safetensors")["proj"], TOWER["proj"])


# --- what is refused -------------------------------------------------------------------------------------------------

BLOCK = "visual.transformer.resblocks.1."
TEXT = {name: tensor for name, tensor in WHOLE.items() if not name.startswith("visual.")}
REFUSED: dict[str, tuple[Any, str]] = {
    "both towers under one name": (TEXT | TOWER, "tensors of a visual and of a text tower stand together under '.'"),
    "flat parameters": ({"_fsdp_wrapped_module._flat_param": torch.ones(9)}, "holds flat parameters of FSDP"),
    "flat blocks": (
        {name: tensor for name, tensor in WHOLE.items() if not name.startswith(BLOCK)}
        | {f"{BLOCK}_fsdp_wrapped_module._flat_param": torch.ones(9)},
        "holds flat parameters of FSDP",
    ),
    "one tensor with two values": (
        WHOLE | {"module.visual.proj": OTHER["proj"]},
        "tensors 'module.visual.proj' and 'visual.proj' are one and the same without their wrappers, and hold",
    ),
    "state of an optimizer": (
        {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []},
        "holds no tensors of a model; left out 1 tensor (state.0.exp_avg)",
    ),
    "a list of models": (
        {"models": [TOWER, OTHER]},
        "tensors are in lists: 2 items under 'models'",
    ),
    "models in a tuple beside others": (
        {"best": ({"net": TOWER},), "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
        "lists: 1 item under 'best', which don't tell what is which weight, or which model is meant; save",
    ),
    "a list beside a text tower": ({"text": TEXT, "visual": [*TOWER.values()]}, "in lists: 32 items under 'visual'"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_can_not_be_told_apart_is_refused(tmp_path: Path, kind: str) -> None:
    state, said = REFUSED[kind]
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(CheckpointError) as seen:
        open_checkpoint(tmp_path / "model.pt")
    assert str(seen.value).startswith("model.pt: ") and said in str(seen.value)


@pytest.mark.parametrize("kind", [kind for kind in REFUSED if "list" in kind or "tuple" in kind])
def test_convert_names_lists_of_tensors_too(tmp_path: Path, kind: str) -> None:
    """Before: "the file holds no tensors", of a file with eight models."""
    torch.save(REFUSED[kind][0], tmp_path / "model.pt")
    assert "tensors are in lists: " in convert(tmp_path / "model.pt", tmp_path / "out.safetensors").detail


NO_TOWER: dict[str, tuple[State, str]] = {
    "text tower alone": (TEXT, "no CLIP visual transformer and no head"),
    "a block is gone": (
        {name: tensor for name, tensor in WHOLE.items() if not name.startswith("visual.transformer.resblocks.0.")},
        "is no complete vision transformer of open_clip's: 12 tensors missing",
    ),
    "a norm is gone": (
        {name: tensor for name, tensor in WHOLE.items() if name != "visual.ln_post.bias"},
        "1 tensor missing ('ln_post.bias')",
    ),
    "prompts in a block": (WHOLE | {f"{BLOCK}VPT": torch.ones(2, 32)}, "1 tensor unexpected"),
    "an adapter in a block": (WHOLE | {f"{BLOCK}attn.lora_A": torch.ones(2, 32)}, "1 tensor unexpected"),
    "blocks of another width": (
        WHOLE | {f"{BLOCK}attn.out_proj.weight": torch.ones(8, 8)},
        "'transformer.resblocks.1.attn.out_proj.weight' is [8, 8], which does not go with a tower of width 32",
    ),
    "a norm of another width": (
        WHOLE | {"visual.ln_pre.weight": torch.ones(33)},
        "'ln_pre.weight' is [33], which does",
    ),
    "blocks of two hidden sizes": (WHOLE | {f"{BLOCK}mlp.c_fc.bias": torch.ones(65)}, "mlp.c_fc.bias' is [65], which"),
    "quantised": (
        {name: tensor.to(torch.int8) for name, tensor in WHOLE.items()},
        "'class_embedding' holds int8, no floating-point numbers",
    ),
    "four channels": (WHOLE | {"visual.conv1.weight": torch.ones(32, 4, 4, 4)}, "square patches of three channels"),
    "no numbers": (WHOLE | {"visual.proj": torch.full((32, 16), torch.nan)}, "tensor 'proj' holds NaN or infinity"),
    "no projection": (
        {name: tensor for name, tensor in WHOLE.items() if name != "visual.proj"},
        "open_clip CLIP under 'visual.' holds no projection 'proj' [width, embed_dim], with which open_clip's towers",
    ),
    "no square of patches": (
        WHOLE | {"visual.positional_embedding": torch.ones(18, 32)},
        "has 18 rows; expected a square of patches and one more",
    ),
}


@pytest.mark.parametrize("kind", NO_TOWER)
def test_convert_writes_nothing_that_is_no_tower(tmp_path: Path, kind: str) -> None:
    state, said = NO_TOWER[kind]
    torch.save(state, tmp_path / "model.pt")
    found = convert(tmp_path / "model.pt", tmp_path / "out" / "model.safetensors")
    assert found.output is None and said in found.detail
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_text_tower_is_read_through_the_same_wrappers(tmp_path: Path) -> None:
    torch.save(lightning(under("model._orig_mod.", WHOLE)), tmp_path / "clip.ckpt")
    found = open_checkpoint(tmp_path / "clip.ckpt", part="text")
    assert list(found) == sorted(TEXT) and all(torch.equal(found[name], tensor) for name, tensor in TEXT.items())
    write_yaml(tmp_path, base="clip.ckpt", text_tower="clip.ckpt", tasks=[{"name": "pets", "classes": ["a", "b"]}])
    assert list(load_suite(tmp_path).text_checkpoint) == sorted(TEXT)


# --- differences -----------------------------------------------------------------------------------------------------


def test_a_difference_from_the_base_is_no_model(own_suite: Path, tmp_path: Path) -> None:
    """Before: `evaluate` printed the accuracy of weights that are next to nothing, `merge` merged −θ₀."""
    base, file = load_file(own_suite / "base.safetensors"), own_suite / "roads.safetensors"
    save_file({name: tensor - base[name] for name, tensor in load_file(file).items()}, file)
    said = "roads.safetensors: the gains of its layer norms have the norm"
    home = ("--home", str(tmp_path / "home"))
    evaluate = ("evaluate", str(own_suite))
    for command in ((*evaluate, "--checkpoint", str(file)), (*evaluate, "--individual"), ("merge", str(own_suite))):
        refused = CliRunner().invoke(main, [*command, *home])
        seen = refused.stderr.replace(" (task 'roads')", "")
        assert refused.exit_code == 1 and said in seen and "(a task vector), and is no model; add the base's" in seen
    rows = {row.file: row for row in check_suite(load_suite(own_suite), try_models=False).files}
    assert not rows["roads.safetensors"].ok


def test_the_accuracy_of_a_model_that_is_far_from_the_base_is_doubted(own_suite: Path, tmp_path: Path) -> None:
    other = load_file(own_suite / "base.safetensors")
    for name in other:
        if other[name].ndim > 1:
            other[name] = torch.randn(other[name].shape, generator=torch.Generator().manual_seed(0))
    save_file(other, tmp_path / "other.safetensors")
    command = ("evaluate", str(own_suite), "--home", str(tmp_path / "home"), "--checkpoint")
    doubted = CliRunner().invoke(main, [*command, str(tmp_path / "other.safetensors")])
    assert doubted.exit_code == 0 and "warning: other.safetensors: far from the base (" in doubted.stderr
    usual = json.loads(CliRunner().invoke(main, [*command, str(own_suite / "roads.safetensors"), "--json"]).stdout)
    assert usual["warnings"] == []
