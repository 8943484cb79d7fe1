"""RegMean against explicit hooks on a tower and a solve in numpy."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.hooks import RemovableHandle

from merging.core.errors import MissingPart
from merging.evaluation.evaluator import Evaluator
from merging.evaluation.input_grams import input_grams
from merging.methods.calibration import calibrated
from merging.methods.context import Context
from merging.methods.params import DataUse
from merging.methods.plan import plan
from merging.methods.registry import find
from merging.runs.jobs import MergeSpec
from merging.suites import Suite, load_suite
from merging.weights.vectors import TaskVectors
from tests.random_models import TASKS, write_suite

State = dict[str, torch.Tensor]
IMAGES = 24  # all that the tiny suite has
WIDTH = 32


def hooks(block: torch.nn.Module, prefix: str, seen: dict[str, np.ndarray]) -> list[RemovableHandle]:
    """Have a block tell the inputs of its linear layers."""

    def keep(name: str):  # type: ignore[no-untyped-def]
        return lambda module, inputs: seen.update({name: inputs[0].reshape(-1, inputs[0].shape[-1]).numpy()})

    def keep_attention(module, inputs, output):  # type: ignore[no-untyped-def]
        rows = output.detach()  # of ln_1, [N, tokens, width]
        seen[prefix + "attn.in_proj_weight"] = rows.reshape(-1, WIDTH).numpy()
        attention = block.attn
        q, k, v = (rows @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=-1)
        heads = [part.unflatten(-1, (2, 16)).transpose(1, 2) for part in (q, k, v)]  # [N, heads, tokens, 16]
        weights = (heads[0] @ heads[1].transpose(-1, -2) / 4).softmax(dim=-1)
        seen[prefix + "attn.out_proj.weight"] = (weights @ heads[2]).transpose(1, 2).reshape(-1, WIDTH).numpy()

    handles = [block.ln_1.register_forward_hook(keep_attention)]
    for layer in ("c_fc", "c_proj"):
        handles.append(block.mlp.get_submodule(layer).register_forward_pre_hook(keep(f"{prefix}mlp.{layer}.weight")))
    return handles


def plain_inputs(suite: Suite, task: str, everything: bool = False) -> dict[str, np.ndarray]:
    """Inputs of every linear layer of a task's model, ``[tokens, in]``, by hooks and attention written out.

    With everything also those of ``conv1``, patches of 8 × 8 cut by hand, and of ``proj``.
    """
    evaluator = Evaluator(suite)
    evaluator.load(suite.checkpoint(task))
    seen: dict[str, np.ndarray] = {}
    handles = []
    for index, block in enumerate(evaluator.tower.transformer.resblocks):  # type: ignore[union-attr, arg-type]
        handles += hooks(block, f"transformer.resblocks.{index}.", seen)
    images = evaluator.images(task, "val", np.arange(IMAGES))
    if everything:
        cut = [images[:, :, top : top + 8, left : left + 8] for top in range(0, 32, 8) for left in range(0, 32, 8)]
        seen["conv1.weight"] = torch.cat(cut).flatten(1).numpy()
        handles.append(
            evaluator.tower.ln_post.register_forward_hook(  # type: ignore[union-attr]
                lambda module, inputs, output: seen.update({"proj": output.reshape(-1, 17, WIDTH)[:, 0].numpy()})
            )
        )
    with torch.no_grad():
        evaluator.tower(images)
    for handle in handles:
        handle.remove()
    return seen


def plain_regmean(
    suite: Suite, tasks: tuple[str, ...], factor: float, everything: bool = False
) -> dict[str, np.ndarray]:
    """Merged weights, layer by layer, in float64."""
    inputs = [plain_inputs(suite, task, everything) for task in tasks]
    merged = {}
    for name in suite.base_checkpoint:
        models = [suite.checkpoint(task)[name].double().numpy() for task in tasks]
        there = name in inputs[0]
        merged[name] = (
            fitted(name, [rows[name] for rows in inputs], models, factor) if there else np.mean(models, axis=0)
        )
    return merged


def fitted(name: str, inputs: list[np.ndarray], models: list[np.ndarray], factor: float) -> np.ndarray:
    """One layer's weights in float64, from its inputs ``[tokens, in]`` and weights in every model."""
    left: np.ndarray | float = 0.0
    right: np.ndarray | float = 0.0
    for rows, model in zip(inputs, models, strict=True):
        x = rows.astype(np.float64)
        gram = x.T @ x / len(x)
        gram = factor * gram + (1 - factor) * np.diag(np.diag(gram))
        matrix = model if name == "proj" else model.reshape(len(model), -1).T  # [in, out]
        left, right = left + gram, right + gram @ matrix
    solved = np.linalg.solve(left, right)
    return (solved if name == "proj" else solved.T).reshape(models[0].shape)


@torch.no_grad()
def plain_plus_plus(suite: Suite, tasks: tuple[str, ...], factor: float, everything: bool) -> dict[str, np.ndarray]:
    """Merged weights, block after block, with every block run by itself on what the merged ones before gave."""
    evaluators = {task: Evaluator(suite) for task in tasks}
    for task, evaluator in evaluators.items():
        evaluator.load(suite.checkpoint(task))
    models = {n: [suite.checkpoint(t)[n].double().numpy() for t in tasks] for n in suite.base_checkpoint}
    merged = {name: np.mean(stack, axis=0) for name, stack in models.items()}
    images = {task: evaluator.images(task, "val", np.arange(IMAGES)) for task, evaluator in evaluators.items()}
    if everything:
        patches = [
            x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(-1, 192) for x in images.values()
        ]
        merged["conv1.weight"] = fitted("conv1.weight", [x.numpy() for x in patches], models["conv1.weight"], factor)

    def tower() -> torch.nn.Module:
        evaluator = Evaluator(suite)
        evaluator.load({name: torch.from_numpy(value).float() for name, value in merged.items()})
        return evaluator.tower

    def tokens(model: torch.nn.Module, pictures: torch.Tensor) -> torch.Tensor:
        """What reaches the first block."""
        x = model.conv1(pictures).flatten(2).transpose(1, 2)
        x = torch.cat([model.class_embedding.expand(len(x), 1, -1), x], dim=1) + model.positional_embedding
        return model.ln_pre(x)

    rows = {task: tokens(tower(), pictures) for task, pictures in images.items()}
    for index in range(2):
        prefix, inputs = f"transformer.resblocks.{index}.", []
        for task, evaluator in evaluators.items():
            seen: dict[str, np.ndarray] = {}
            block = evaluator.tower.transformer.resblocks[index]  # type: ignore[union-attr, index]
            handles = hooks(block, prefix, seen)
            block(rows[task])
            for handle in handles:
                handle.remove()
            inputs.append(seen)
        for name in inputs[0]:
            merged[name] = fitted(name, [one[name] for one in inputs], models[name], factor)
        rows = {task: tower().transformer.resblocks[index](x) for task, x in rows.items()}  # type: ignore[union-attr, index]
    if everything:
        pooled = [evaluators[task].tower.ln_post(x)[:, 0].numpy() for task, x in rows.items()]  # type: ignore[operator]
        merged["proj"] = fitted("proj", pooled, models["proj"], factor)
    return merged


@pytest.mark.parametrize("layers", ["published", "all_linear"])
@pytest.mark.parametrize("merge", ["regmean", "regmean_plus_plus"])
def test_singular_values_may_be_calibrated_after_it(suite: Suite, context: Context, merge: str, layers: str) -> None:
    """Matrices as they are stored, or linear layers; what is no such matrix stays."""
    vectors = suite.vectors(TASKS[:2])
    plain = regmean(vectors, context, merge=merge, layers=layers)
    found = regmean(vectors, context, merge=merge, layers=layers, calibration=0.3)
    for name, base, stack in vectors.iterate():
        update = plain[name] - base
        if layers == "published" and update.ndim == 2:
            expected = calibrated(update, stack, 0.3)
        elif layers == "all_linear" and name == "proj":
            expected = calibrated(update.T, stack.mT, 0.3).T
        elif layers == "all_linear" and update.ndim > 1 and name != "positional_embedding":
            expected = calibrated(update.flatten(1), stack.flatten(2), 0.3).reshape(base.shape)
        else:
            expected = update
        torch.testing.assert_close(found[name] - base, expected, rtol=1e-3, atol=1e-5)
    last = "transformer.resblocks.1.mlp.c_proj.weight"
    assert float((found[last] - plain[last]).norm()) > 1e-3 * float(plain[last].norm())


@pytest.mark.parametrize("layers", ["published", "all_linear"])
@pytest.mark.parametrize("factor", [0.5, 0.95])
def test_regmean_plus_plus_fits_block_after_block(suite: Suite, context: Context, factor: float, layers: str) -> None:
    tasks = TASKS[:2]
    found = regmean(suite.vectors(tasks), context, merge="regmean_plus_plus", off_diagonal=factor, layers=layers)
    expected = plain_plus_plus(suite, tasks, factor, layers == "all_linear")
    other = regmean(suite.vectors(tasks), context, off_diagonal=factor, layers=layers)
    for name, tensor in found.items():
        np.testing.assert_allclose(tensor.numpy(), expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
    last = "transformer.resblocks.1.mlp.c_proj.weight"
    assert float((found[last] - other[last]).norm()) > 1e-3 * float(found[last].norm())


def test_regmean_plus_plus_gives_one_model_back_and_ignores_the_order(suite: Suite, context: Context) -> None:
    alone = regmean(suite.vectors(TASKS[:1]), context, merge="regmean_plus_plus")
    assert_same(alone, dict(suite.checkpoint(TASKS[0])), 1e-4)
    states = [regmean(suite.vectors(tasks), context, merge="regmean_plus_plus") for tasks in (TASKS, TASKS[::-1])]
    assert_same(states[0], states[1], 1e-4)


def regmean(
    vectors: TaskVectors, context: Context, edit: str = "none", merge: str = "regmean", **params: object
) -> State:
    spec = MergeSpec.build(
        suite="any", tasks=vectors.tasks, edit=edit, merge=merge, merge_params={"images": IMAGES, **params}
    )
    return dict(plan(vectors, spec.pair, context).tensors(context))


def assert_same(found: State, expected: State, tolerance: float = 1e-5) -> None:
    assert list(found) == sorted(expected)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=tolerance, atol=tolerance)


def changed_suite(suite: Suite, folder: Path, changes: dict[str, State]) -> Suite:
    """A copy of a suite with other weight files."""
    shutil.copytree(suite.folder, folder)
    for task, state in changes.items():
        save_file(state, folder / f"{task}.safetensors")
    return load_suite(folder)


def test_grams_are_those_of_every_linear_layer(suite: Suite, context: Context) -> None:
    found = input_grams(context.need_images("the test", ()), suite.checkpoint("digits"), "digits", IMAGES, context)
    expected = plain_inputs(suite, "digits")
    assert found.keys() == expected.keys() and len(found) == 8
    for name, rows in expected.items():
        torch.testing.assert_close(found[name], torch.from_numpy(rows.T @ rows / len(rows)), rtol=1e-4, atol=1e-5)


def test_watching_changes_nothing(suite: Suite, context: Context) -> None:
    evaluator = context.need_images("the test", ())
    evaluator.load(suite.checkpoint("digits"))
    images = evaluator.images("digits", "val", np.arange(4))
    before = evaluator.tower(images)
    input_grams(evaluator, suite.checkpoint("digits"), "digits", 4, context)
    torch.testing.assert_close(evaluator.tower(images), before)


@pytest.mark.parametrize("tasks", [TASKS[:1], TASKS[:2], TASKS])
@pytest.mark.parametrize("factor", [0.0, 0.5, 0.95])
def test_merged_weights_are_the_solution(suite: Suite, context: Context, tasks: tuple[str, ...], factor: float) -> None:
    found = regmean(suite.vectors(tasks), context, off_diagonal=factor)
    for name, expected in plain_regmean(suite, tasks, factor).items():
        np.testing.assert_allclose(found[name].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_conv1_and_proj_are_layers_as_well_on_request(suite: Suite, context: Context) -> None:
    found = regmean(suite.vectors(TASKS[:2]), context, layers="all_linear", off_diagonal=0.9)
    published = regmean(suite.vectors(TASKS[:2]), context, off_diagonal=0.9)
    for name, expected in plain_regmean(suite, TASKS[:2], 0.9, everything=True).items():
        np.testing.assert_allclose(found[name].numpy(), expected, rtol=1e-3, atol=1e-4)
        assert torch.equal(found[name], published[name]) == (name not in ("conv1.weight", "proj"))


def test_eight_tasks(tmp_path: Path) -> None:
    suite = load_suite(write_suite(tmp_path / "eight", tuple(f"task{index}" for index in range(8))))
    found = regmean(suite.vectors(), Context(evaluator=Evaluator(suite)))
    for name, expected in plain_regmean(suite, suite.task_names, 0.95).items():
        np.testing.assert_allclose(found[name].numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [0.0, 0.95, 0.999])
@pytest.mark.parametrize("images", [1, 24])
def test_one_task_gives_its_model(suite: Suite, context: Context, factor: float, images: int) -> None:
    vectors = suite.vectors(["roads"])
    assert_same(regmean(vectors, context, images=images, off_diagonal=factor), dict(suite.checkpoint("roads")))


def test_the_order_of_tasks_does_not_matter(suite: Suite, context: Context) -> None:
    assert_same(regmean(suite.vectors(TASKS), context), regmean(suite.vectors(TASKS[::-1]), context))


def test_equal_models_give_that_model(suite: Suite, tmp_path: Path) -> None:
    model = dict(suite.checkpoint("roads"))
    equal = changed_suite(suite, tmp_path / "equal", {"digits": model, "leaves": model})
    vectors = equal.vectors(["digits", "roads", "leaves"])
    assert_same(regmean(vectors, Context(evaluator=Evaluator(equal))), model)


def test_models_equal_to_the_base_give_the_base(suite: Suite, tmp_path: Path) -> None:
    base = dict(suite.base_checkpoint)
    same = changed_suite(suite, tmp_path / "same", {"digits": base, "roads": base})
    found = regmean(same.vectors(["digits", "roads"]), Context(evaluator=Evaluator(same)))
    assert all(torch.equal(found[name], base[name]) for name in base)


@pytest.mark.parametrize("name", ["ln_1.weight", "attn.in_proj_weight"])
def test_inputs_that_are_always_zero_take_the_mean(suite: Suite, tmp_path: Path, name: str) -> None:
    """Norms that are zero silence the layer after them; zero projections need no more than to stay finite."""
    silent = {}
    for task in ("digits", "roads"):
        state = {key: tensor.clone() for key, tensor in suite.checkpoint(task).items()}
        for key in state:
            if key.startswith("transformer.resblocks.0.ln_1") if "ln_1" in name else key.endswith(name):
                state[key].zero_()
        silent[task] = state
    changed = changed_suite(suite, tmp_path / "silent", silent)
    found = regmean(changed.vectors(["digits", "roads"]), Context(evaluator=Evaluator(changed)))
    assert all(bool(tensor.isfinite().all()) for tensor in found.values())
    packed = "transformer.resblocks.0.attn.in_proj_weight"
    torch.testing.assert_close(found[packed], (silent["digits"][packed] + silent["roads"][packed]) / 2)


@pytest.mark.parametrize(("factor", "limit"), [(0.95, 2.0), (0.999, 10.0)])
def test_fewer_images_than_columns_stay_near_the_models(
    suite: Suite, context: Context, factor: float, limit: float
) -> None:
    """One image of 17 tokens can't determine 32 or 64 columns."""
    vectors = suite.vectors(["digits", "roads"])
    for name, tensor in regmean(vectors, context, images=1, off_diagonal=factor).items():
        base, stack = vectors.stack(name)
        assert float((tensor - base).norm()) <= limit * float(stack.flatten(1).norm(dim=1).max())


def test_half_precision_files(suite: Suite, tmp_path: Path) -> None:
    names = ("base", "digits", "roads")
    half = {name: {k: t.half() for k, t in load_file(suite.folder / f"{name}.safetensors").items()} for name in names}
    wide = {name: {k: t.float() for k, t in state.items()} for name, state in half.items()}
    states = []
    for folder, changes in (("half", half), ("wide", wide)):
        changed = changed_suite(suite, tmp_path / folder, changes)
        states.append(regmean(changed.vectors(["digits", "roads"]), Context(evaluator=Evaluator(changed))))
    assert all(tensor.dtype == torch.float16 for tensor in states[0].values())
    assert_same({name: tensor.float() for name, tensor in states[0].items()}, states[1], 2e-3)


def test_after_an_edit_weights_are_edited_and_grams_are_not(suite: Suite, context: Context) -> None:
    vectors = suite.vectors(["digits", "roads"])
    found = regmean(vectors, context, edit="ties")
    method = find("edit", "ties")
    edit = method.plan(vectors, method.parse({}), context)
    name = "transformer.resblocks.1.mlp.c_fc.weight"
    base, stack = vectors.stack(name)
    grams = [
        input_grams(context.need_images("the test", ()), model, task, IMAGES, context)[name].double()
        for task, model in zip(vectors.tasks, vectors.checkpoints, strict=True)
    ]
    grams = [0.95 * gram + 0.05 * gram.diagonal().diag() for gram in grams]
    edited = edit(name, base, stack).double()
    right = sum(vector @ gram for vector, gram in zip(edited, grams, strict=True))
    expected = base + torch.linalg.solve(sum(grams), right, left=False).float()  # type: ignore[arg-type]
    torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-6)


def test_golden_values(suite: Suite, context: Context) -> None:
    """Pinned results, as in the tests of whole merges."""
    golden = json.loads((Path(__file__).parents[2] / "golden_merges.json").read_text())["tiny suite: none + regmean"]
    found = regmean(suite.vectors(), context)
    assert [float(tensor.double().norm()) for tensor in found.values()] == pytest.approx(golden, rel=2e-5)


def test_without_images_it_is_refused(suite: Suite) -> None:
    method = find("merge", "regmean")
    with pytest.raises(MissingPart, match="RegMean needs images"):
        method.plan(suite.vectors(), method.parse({}), Context())
    assert method.data({}) == DataUse("unlabeled")
