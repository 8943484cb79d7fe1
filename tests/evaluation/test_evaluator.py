"""Accuracy against a plain loop; heads from files and from a text tower; what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from merging.core.errors import Cancelled, MismatchedCheckpoint, MissingPart, NonFiniteWeights, SuiteError
from merging.evaluation import evaluator as evaluator_module
from merging.evaluation.accuracy import normalised_accuracy
from merging.evaluation.evaluator import Evaluator, clip
from merging.evaluation.heads import load_head
from merging.methods.context import Context
from merging.suites import Suite, load_suite
from merging.weights.files import open_checkpoint
from tests.lightly import open_clip
from tests.random_models import ARCHITECTURE, CLASSES, TASKS

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}


def edited(folder: Path, **changes: object) -> Suite:
    """The suite of a folder with other fields; those of ``task`` go into its first task."""
    content = yaml.safe_load((folder / "suite.yaml").read_text())
    content["tasks"][0].update(changes.pop("task", {}))
    (folder / "suite.yaml").write_text(yaml.safe_dump(content | changes))
    return load_suite(folder)


def vision(**changes: object) -> dict[str, Any]:
    """The tiny architecture with other values in ``vision_cfg``."""
    return {**ARCHITECTURE, "vision_cfg": {**ARCHITECTURE["vision_cfg"], **changes}}


def plain_accuracy(suite: Suite, state: dict[str, torch.Tensor], task: str, split: str) -> float:
    """One image at a time, with nothing of the evaluator."""
    tower = open_clip.CLIP(**ARCHITECTURE, text_cfg=TEXT).visual
    tower.load_state_dict(state)
    tower.eval()
    stored = np.load(suite.path(f"{task}.npz"))
    head = open_checkpoint(suite.path(f"{task}.head.safetensors"), part="all")["weight"]
    hits = []
    for pixels, label in zip(stored[f"{split}_images"], stored[f"{split}_labels"], strict=True):
        image = (torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 - 0.5) / 0.25
        with torch.no_grad():
            hits.append(int((tower(image) @ head.T).argmax()) == label)
    return float(np.mean(hits))


@pytest.mark.parametrize("split", ["val", "test"])
def test_accuracy_is_that_of_a_plain_loop(suite: Suite, device: torch.device, split: str) -> None:
    evaluator = Evaluator(suite, device)
    state = dict(suite.checkpoint("leaves"))
    found = evaluator.accuracy(state, TASKS, split)
    expected = {task: plain_accuracy(suite, state, task, split) for task in TASKS}
    assert found.per_task == pytest.approx(expected, abs=1e-9 if device.type == "cpu" else 0.05)
    assert found.counts == dict.fromkeys(TASKS, 24)
    assert found.images == 96
    assert found.split == split
    assert found.average == pytest.approx(np.mean(list(expected.values())), abs=0.05)


def test_batches_do_not_matter(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Evaluator(suite).accuracy(suite.base_checkpoint, TASKS)
    monkeypatch.setattr("merging.evaluation.evaluator.CPU_IMAGES", 7)
    assert Evaluator(suite).accuracy(suite.base_checkpoint, TASKS) == whole


def test_images_are_drawn_by_the_task_s_name_and_the_seed_alone(evaluator: Evaluator) -> None:
    def drawn(task: str, seed: int, split: str = "val") -> list[int]:
        return evaluator.draw(task, split, 10, seed).tolist()

    draws = {(task, seed): drawn(task, seed) for task in TASKS for seed in (0, 1)}
    assert len({tuple(indices) for indices in draws.values()}) == len(draws)  # each task and seed has images of its own
    for (task, seed), indices in draws.items():
        assert indices == sorted(set(indices)) and len(indices) == 10 and indices[0] >= 0 and indices[-1] < 24
        assert indices == drawn(task, seed) == drawn(task, seed, "test")  # both splits have as many
    assert draws["digits", 0] == [0, 4, 5, 6, 9, 11, 12, 16, 21, 22]  # what saved runs were made on
    assert draws["roads", 0] == [2, 4, 6, 7, 8, 13, 14, 15, 16, 22]
    assert evaluator.draw("roads", "val", 100, seed=0).tolist() == list(range(24))


def test_nothing_of_an_earlier_model_is_left(suite: Suite, evaluator: Evaluator) -> None:
    expected = evaluator.accuracy(suite.base_checkpoint, TASKS)
    evaluator.accuracy(suite.checkpoint("digits"), TASKS)
    assert evaluator.accuracy(suite.base_checkpoint, TASKS) == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_agree_closely(suite: Suite, dtype: torch.dtype) -> None:
    evaluator = Evaluator(suite, dtype=dtype)
    expected = Evaluator(suite).accuracy(suite.base_checkpoint, TASKS).average
    assert evaluator.accuracy(suite.base_checkpoint, TASKS).average == pytest.approx(expected, abs=0.1)


def test_weights_of_another_tower_are_refused(suite: Suite, evaluator: Evaluator) -> None:
    state = dict(suite.base_checkpoint)
    for changes, reason in (
        ({"proj": None}, r"1 tensor missing \('proj'\)$"),
        ({"extra": torch.ones(1)}, r"1 tensor unexpected \('extra'\)$"),
        (
            {"proj": torch.ones(1, 16)},
            r"1 tensor of another shape \('proj'\); 'proj' is \[1, 16\], expected \[32, 16\]$",
        ),
        ({"proj": state["proj"].to(torch.int8)}, r"1 tensor of whole numbers \('proj'\)$"),
    ):
        wrong = {name: tensor for name, tensor in (state | changes).items() if tensor is not None}
        with pytest.raises(MismatchedCheckpoint, match=reason):
            evaluator.accuracy(wrong, TASKS)


def test_weights_that_give_nan_have_no_accuracy(suite: Suite, evaluator: Evaluator) -> None:
    state = dict(suite.base_checkpoint)
    state["proj"] = torch.full_like(state["proj"], torch.nan)
    with pytest.raises(NonFiniteWeights, match="output is NaN or infinite"):
        evaluator.accuracy(state, TASKS)


def test_a_base_of_another_architecture_is_refused(own_suite: Path) -> None:
    suite = edited(own_suite, architecture={**ARCHITECTURE, "embed_dim": 24})
    with pytest.raises(MismatchedCheckpoint, match=r"base\.safetensors: not the weights of ViT 2 × 32.*'proj'"):
        _ = Evaluator(suite).tower


def test_heads_that_fit_the_base_and_not_the_architecture_are_not_blamed(own_suite: Path) -> None:
    suite = edited(own_suite, architecture={**ARCHITECTURE, "embed_dim": 24})
    said = r"expected 24 numbers a class by ViT 2 × 32.*the base base\.safetensors has 16 outputs too; check `archi"
    with pytest.raises(SuiteError, match=said):
        Evaluator(suite).prepare(["digits"], "test")
    save_file({"weight": torch.eye(CLASSES, 9)}, own_suite / "digits.head.safetensors")
    with pytest.raises(SuiteError, match=r"expected 16 numbers a class$"):
        Evaluator(edited(own_suite, architecture=ARCHITECTURE)).prepare(["digits"], "test")


def test_an_architecture_of_any_size_is_compared_before_it_is_built(own_suite: Path) -> None:
    suite = edited(own_suite, architecture=vision(width=2**17, head_width=2**16))  # a tower of 800 GB
    with pytest.raises(MismatchedCheckpoint, match="of another shape"):
        _ = Evaluator(suite).tower


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("ViT-Z-99", "open_clip knows no model 'ViT-Z-99'"),
        (vision(timm_model_name="no_such_model"), "open_clip can't build"),
        (vision(width=33), r"can't build this architecture: vision_cfg.width = 33: must be a multiple of .* = 2$"),
        (vision(head_width=64), r"vision_cfg.width = 32: must be a multiple of .* 32 // 64 = 0$"),
        (vision(patch_size=None), "vision_cfg.patch_size = None: must be a whole number"),
        (vision(patch_size=33), "vision_cfg.patch_size = 33: must be at most image_size, 32"),
        (vision() | {"text_cfg": {"width": 10, "heads": 4}}, "text_cfg.width = 10: must be a multiple of heads, 4"),
        (vision(image_size=[32, 16]), "only square images"),
    ],
)
def test_impossible_architectures_are_refused(own_suite: Path, architecture: object, reason: str) -> None:
    suite = edited(own_suite, architecture=architecture)
    with pytest.raises(SuiteError, match=reason):
        Evaluator(suite).accuracy({}, TASKS)


def test_input_comes_from_the_suite_or_the_architecture(suite: Suite, own_suite: Path) -> None:
    assert clip.input_of(suite) == clip.Input(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    named = edited(own_suite, architecture="ViT-B-32", preprocess=None)
    found = clip.input_of(named)
    assert (found.size, found.mean) == (224, open_clip.OPENAI_DATASET_MEAN)


def test_missing_parts_and_cancelling(own_suite: Path, suite: Suite, evaluator: Evaluator) -> None:
    bare = edited(own_suite, task={"data": None})
    with pytest.raises(MissingPart, match="task 'circles' lacks images or a head"):
        Evaluator(bare).accuracy(bare.base_checkpoint, TASKS)
    with pytest.raises(Cancelled, match="evaluating on circles"):
        evaluator.accuracy(suite.base_checkpoint, TASKS, context=Context(cancelled=lambda: True))


# --- heads -----------------------------------------------------------------------------------------------------------


def test_heads_have_rows_of_norm_one(own_suite: Path) -> None:
    rows = torch.nn.functional.normalize(torch.randn(CLASSES, 16))
    save_file({"weight": (7 * rows).half()}, own_suite / "long.safetensors")
    head = load_head(edited(own_suite, task={"head": "long.safetensors"}), "circles")
    torch.testing.assert_close(head.norm(dim=1), torch.ones(CLASSES))


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"bias": torch.ones(5)}, r"expected a tensor 'weight' \[classes, embed_dim\]; it holds 'bias'"),
        ({"weight": torch.ones(5)}, "expected a tensor 'weight'"),
        ({"weight": torch.ones(4, 16)}, "4 rows for 5 classes of task 'circles'"),
        ({"weight": torch.ones(5, 12)}, "expected 16 numbers a class"),
        ({"weight": torch.full((5, 16), torch.inf)}, "holds NaN or infinity"),
        (
            {"weight": torch.ones(5, 16) * torch.arange(5.0)[:, None]},
            "norms from 4 to 16; in a suite all have one norm",
        ),
        ({"weight": torch.ones(5, 16), "bias": torch.arange(5.0)}, "holds a 'bias' that is not zero"),
    ],
)
def test_a_wrong_head_is_refused(own_suite: Path, tensors: dict[str, torch.Tensor], reason: str) -> None:
    save_file(tensors, own_suite / "wrong.safetensors")
    with pytest.raises(SuiteError, match=rf"wrong\.safetensors: .*{reason}"):
        load_head(edited(own_suite, task={"head": "wrong.safetensors"}), "circles")


def test_a_bias_of_zeros_changes_nothing(own_suite: Path) -> None:
    save_file({"weight": torch.ones(CLASSES, 16), "bias": torch.zeros(CLASSES)}, own_suite / "zeros.safetensors")
    assert load_head(edited(own_suite, task={"head": "zeros.safetensors"}), "circles").shape == (CLASSES, 16)


@pytest.fixture(scope="module")
def text_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(4)
    model = open_clip.CLIP(**ARCHITECTURE, text_cfg=TEXT)
    return {n: t.detach().clone() for n, t in model.state_dict().items() if not n.startswith("visual.")}


def test_heads_are_built_from_the_text_tower(own_suite: Path, text_state: dict[str, torch.Tensor]) -> None:
    save_file(text_state, own_suite / "text.safetensors")
    templates = ["a photo of a {}.", "{} on a table."]
    suite = edited(
        own_suite,
        architecture={**ARCHITECTURE, "text_cfg": TEXT},
        text_tower="text.safetensors",
        templates=templates,
        task={"head": None, "classes": ["cat", "dog"]},
    )
    found = load_head(suite, "circles")
    model = open_clip.CLIP(**ARCHITECTURE, text_cfg=TEXT)
    model.load_state_dict(text_state, strict=False)
    for row, name in zip(found, ["cat", "dog"], strict=True):
        tokens = open_clip.SimpleTokenizer(context_length=77)([template.format(name) for template in templates])
        with torch.no_grad():
            features = model.encode_text(tokens)
        mean = (features / features.norm(dim=1, keepdim=True)).mean(dim=0)
        torch.testing.assert_close(row, mean / mean.norm(), rtol=1e-4, atol=1e-5)
    assert suite.measurable("circles")


def test_a_text_tower_is_needed_and_checked(own_suite: Path, text_state: dict[str, torch.Tensor]) -> None:
    suite = edited(own_suite, task={"head": None})
    assert not suite.measurable("circles")
    with pytest.raises(MissingPart, match="name a `head` file, or `classes` and a `text_tower`"):
        load_head(suite, "circles")
    save_file(
        {name: tensor for name, tensor in text_state.items() if name != "logit_scale"}, own_suite / "t.safetensors"
    )
    wrong = edited(own_suite, architecture={**ARCHITECTURE, "text_cfg": TEXT}, text_tower="t.safetensors")
    with pytest.raises(MismatchedCheckpoint, match=r"t\.safetensors: not the weights of .*'logit_scale'"):
        load_head(wrong, "circles")


def test_the_tower_has_weights_of_its_own(suite: Suite, evaluator: Evaluator) -> None:
    before = {name: tensor.clone() for name, tensor in suite.base_checkpoint.items()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in evaluator.tower.state_dict().items())
    evaluator.load(suite.checkpoint(TASKS[0]))
    assert not torch.equal(evaluator.tower.state_dict()["proj"], before["proj"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in suite.base_checkpoint.items())


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 1)), min_size=1, max_size=9))
def test_normalised_accuracy_is_the_mean_of_the_ratios(pairs: list[tuple[float, float]]) -> None:
    merged = {str(number): value for number, (value, _) in enumerate(pairs)}
    own = {str(number): value for number, (_, value) in enumerate(pairs)} | {"another": 0.0}
    assert normalised_accuracy(merged, own) == pytest.approx(np.mean([value / mine for value, mine in pairs]))
    assert normalised_accuracy(merged, {**own, "0": 0.0}) is normalised_accuracy(merged, {}) is None


def test_normalised_accuracy_is_not_the_ratio_of_the_means() -> None:
    merged, own = {"hard": 0.1, "easy": 0.9}, {"hard": 0.2, "easy": 1.0}
    assert normalised_accuracy(merged, own) == pytest.approx((0.5 + 0.9) / 2) != pytest.approx(1.0 / 1.2)


def test_images_that_are_kept_on_the_device_are_the_same(
    suite: Suite, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Evaluator(suite, device)
    chosen = np.array([3, 1, 7])
    expected = [read.images(TASKS[0], "test", which) for which in (chosen, slice(2, 6))]
    monkeypatch.setattr(evaluator_module, "keeps_images", lambda device: True)
    kept = Evaluator(suite, device)
    found = [kept.images(TASKS[0], "test", which) for which in (chosen, slice(2, 6))]
    assert all(map(torch.equal, found, expected))
    assert kept._pixels[TASKS[0], "test"] is not None
    assert kept.accuracy(suite.base_checkpoint, TASKS) == read.accuracy(suite.base_checkpoint, TASKS)
    monkeypatch.setattr(evaluator_module, "free_memory", lambda device: 10)
    assert Evaluator(suite, device)._kept_pixels(TASKS[0], "test") is None
