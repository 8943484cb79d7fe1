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
    found = fisher_information(evaluator, suite.checkpoint("digits"), "digits", 24, context)
    parameters = dict(evaluator.tower.named_parameters())
    assert found.keys() == parameters.keys()
    totals = {name: torch.zeros_like(tensor) for name, tensor in found.items()}
    for index in range(24):
        logits = evaluator.logits(
            "digits", evaluator.features(evaluator.images("digits", "val", slice(index, index + 1)))
        )
        for label in range(logits.shape[1]):
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor([label]))
            gradients = torch.autograd.grad(loss, [parameters[name] for name in totals], retain_graph=True)
            for total, gradient in zip(totals.values(), gradients, strict=True):
                total += float(torch.exp(-loss.detach())) * gradient.square()
    for name, total in totals.items():
        torch.testing.assert_close(found[name], total / 24, rtol=1e-2, atol=1e-3 * float(total.max()))


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


@pytest.mark.parametrize("normalise", ["none", "length"])
def test_normalised_models_have_as_much_to_say_as_each_other(suite: Suite, context: Context, normalise: str) -> None:
    """By F / ‖F‖ over the whole model, and half of the update."""
    vectors = suite.vectors(["digits", "roads", "leaves"])
    method = find("merge", "fisher")
    params = method.parse({"images": 3, "floor": 1e-9, "normalise": normalise, "scaling": 0.5})
    plan = method.plan(vectors, params, context)
    evaluator = context.need_images("the test", ())
    found = [
        fisher_information(evaluator, checkpoint, task, 3, context)
        for task, checkpoint in zip(vectors.tasks, vectors.checkpoints, strict=True)
    ]
    lengths = [float(torch.cat([f.flatten() for f in one.values()]).norm()) for one in found]
    assert max(lengths) > 1.05 * min(lengths)
    factors = [1 / length if normalise == "length" else 1.0 for length in lengths]
    for name, base, stack in vectors.iterate():
        weights = torch.stack([factor * one[name].double() for factor, one in zip(factors, found, strict=True)])
        seen = weights.sum(dim=0) > 1e-3 * weights.sum(dim=0).mean()  # elsewhere the floor takes over
        expected = base.double() + 0.5 * (weights * stack).sum(dim=0) / weights.sum(dim=0)
        torch.testing.assert_close(plan(name, base, stack).double()[seen], expected[seen], rtol=1e-3, atol=1e-3)


def test_lambda_of_fisher_merging_may_be_chosen_on_validation(suite: Suite, context: Context) -> None:
    vectors = suite.vectors(["digits"])
    method = find("merge", "fisher")
    plan = method.plan(vectors, method.parse({"images": 2, "scaling": "auto"}), context)
    chosen = plan.report["scaling"]
    assert plan.report["scaling_search"]["split"] == "val"
    for name, base, stack in vectors.iterate():
        torch.testing.assert_close(plan(name, base, stack), base + chosen * stack[0], rtol=1e-4, atol=1e-5)


def test_equal_models_and_missing_images(suite: Suite, context: Context) -> None:
    vectors = suite.vectors(["digits"])
    method = find("merge", "fisher")
    plan = method.plan(vectors, method.parse({"images": 2}), context)
    for name, base, stack in vectors.iterate():
        torch.testing.assert_close(plan(name, base, stack), vectors.checkpoints[0][name])
    with pytest.raises(MissingPart, match="Fisher merging"):
        method.plan(vectors, method.parse({}), Context())
