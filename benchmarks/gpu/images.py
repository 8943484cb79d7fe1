"""Evaluation, What if and AdaMerging on a GPU, with random images."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from benchmarks.gpu.bench import Bench, peak_of, reset_peak
from merging.evaluation.evaluator import Evaluator
from merging.methods.context import Context
from merging.methods.merges.adamerging import AdaMergingParams, CoefficientLearner, mean_entropy
from merging.methods.mixing import plan_edit
from merging.suites.suite import Suite, load_suite

_WITH_IMAGES = "with-images.yaml"
_IMAGES = 256  # a task, of random ones


def with_images(suite: Path, images: int) -> Suite:
    """The suite with random images and heads for every task."""
    loaded = load_suite(suite)
    described = yaml.safe_load(suite.read_text(encoding="utf-8"))
    random = np.random.default_rng(0)
    width = loaded.base_checkpoint.infos["proj"].shape[1]
    for task in described["tasks"]:
        arrays: dict[str, Any] = {
            f"{split}_{what}": made
            for split in ("val", "test")
            for what, made in (
                ("images", random.integers(0, 256, (images, 224, 224, 3), dtype=np.uint8)),
                ("labels", random.integers(0, 10, images)),
            )
        }
        with (suite.parent / f"{task['name']}.npz").open("wb") as file:
            np.savez(file, **arrays)
        head = torch.nn.functional.normalize(torch.randn(10, width), dim=1)
        save_file({"weight": head}, suite.parent / f"{task['name']}.head.safetensors")
        task |= {
            "head": f"{task['name']}.head.safetensors",
            "classes": [f"class {number}" for number in range(10)],
            "data": {"kind": "arrays", "path": f"{task['name']}.npz"},
        }
    target = suite.with_name(_WITH_IMAGES)
    target.write_text(yaml.safe_dump(described), encoding="utf-8")
    return load_suite(target)


def evaluation(bench: Bench, suite: Path) -> None:
    """Images a second, What if from slider to accuracies, and AdaMerging's step."""
    loaded = with_images(suite, _IMAGES)
    vectors = bench.vectors(suite.with_name(_WITH_IMAGES))
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        evaluator = Evaluator(loaded, bench.device, dtype)

        def everything(e: Evaluator = evaluator) -> None:
            e.accuracy(loaded.base_checkpoint, loaded.task_names)

        everything()  # loads images and the tower
        seconds = bench.median(everything)
        bench.say(f"evaluation in {name}, images a second", _IMAGES * len(loaded.task_names) / seconds)
        context = Context(bench.device, dtype=dtype, evaluator=evaluator)
        what_if = plan_edit(vectors, "none", context=context).held(context)

        def slide(e: Evaluator = evaluator, w: Any = what_if, c: Context = context) -> None:
            e.accuracy(w.weights([0.1 * number for number in range(8)], c), loaded.task_names)

        bench.say(f"what if in {name}, slider to {8 * _IMAGES} images of 8 tasks, s", bench.median(slide))
        for batch_size in (16, 32):
            if bench.time_for(f"AdaMerging in {name}, {batch_size}", 15):
                adamerging_step(bench, evaluator, vectors, context, batch_size, name)


def adamerging_step(
    bench: Bench, evaluator: Evaluator, vectors: Any, context: Context, batch_size: int, name: str
) -> None:
    """A step of 8 tasks, and the same images forward and backward, task by task, with nothing learned."""
    learner = CoefficientLearner(vectors, AdaMergingParams(), context, evaluator)
    batch = {task: evaluator.images(task, "test", slice(0, batch_size)) for task in vectors.tasks}

    def passes() -> None:
        for task, images in batch.items():
            mean_entropy(evaluator.logits(task, evaluator.features(images))).backward()

    for work in (lambda: learner.step(batch), passes):
        for _ in range(3):
            work()
    reset_peak(bench.device)
    step = bench.median(lambda: learner.step(batch), 15)
    bench.say(f"AdaMerging step in {name}, 8 × {batch_size} images, s", step)
    bench.say(f"the same, GB held in {name}, 8 × {batch_size}", peak_of(bench.device) / 1e9)
    bench.say(f"8 forward and backward passes in {name}, 8 × {batch_size} images, s", bench.median(passes, 15))
