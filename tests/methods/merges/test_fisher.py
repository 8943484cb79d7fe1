"""Fisher merging against gradients taken class by class."""

import pytest
import torch

from merging.core.errors import MissingPart
from merging.evaluation.gradients import fisher_information
from merging.methods.context import Context
from merging.methods.registry import find
from merging.suites import Suite


def test_information_is_the_expected_squared_gradient(suite: Suite, context: Context) -> None:
    evaluator = context.need_images("the test", ())
    found = fisher_information(evaluator, suite.checkpoint("digits"), "digits", 24, context)["proj"]
    total = torch.zeros_like(found)
    for index in range(24):
        logits = evaluator.logits(
            "digits", evaluator.features(evaluator.images("digits", "val", slice(index, index + 1)))
        )
        for label in range(logits.shape[1]):
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor([label]))
            gradient = torch.autograd.grad(loss, evaluator.tower.proj, retain_graph=True)[0]
            total += float(torch.exp(-loss.detach())) * gradient.square()
    torch.testing.assert_close(found, total / 24, rtol=1e-2, atol=1e-3 * float(found.max()))


def test_every_entry_is_averaged_by_its_information(suite: Suite, context: Context) -> None:
    vectors = suite.vectors(["digits", "roads"])
    method = find("merge", "fisher")
    plan = method.plan(vectors, method.parse({"images": 4, "floor": 1e-3}), context)
    evaluator = context.need_images("the test", ())
    information = [
        fisher_information(evaluator, checkpoint, task, 4, context)
        for task, checkpoint in zip(vectors.tasks, vectors.checkpoints, strict=True)
    ]
    floors = [1e-3 * sum(float(f.sum()) for f in found.values()) / vectors.size for found in information]
    for name, base, stack in vectors.iterate():
        weights = torch.stack([found[name] + floor for found, floor in zip(information, floors, strict=True)])
        expected = base + (weights * stack).sum(dim=0) / weights.sum(dim=0)
        torch.testing.assert_close(plan(name, base, stack), expected, rtol=1e-4, atol=1e-6)


def test_equal_models_and_missing_images(suite: Suite, context: Context) -> None:
    vectors = suite.vectors(["digits"])
    method = find("merge", "fisher")
    plan = method.plan(vectors, method.parse({"images": 2}), context)
    for name, base, stack in vectors.iterate():
        torch.testing.assert_close(plan(name, base, stack), vectors.checkpoints[0][name])
    with pytest.raises(MissingPart, match="Fisher merging"):
        method.plan(vectors, method.parse({}), Context())
