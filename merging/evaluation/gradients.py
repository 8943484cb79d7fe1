"""Gradients of single images through the visual tower, as methods use them that ask which weights matter."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from merging.core.progress import Work
from merging.evaluation.evaluator import Evaluator


def per_image(
    evaluator: Evaluator, task: str, images: int, context: Work
) -> Iterator[tuple[torch.Tensor, int, dict[str, torch.nn.Parameter]]]:
    """Logits ``[classes]`` of one labelled validation image after the other, its label, and the tower's parameters.

    The tower keeps the weights it holds.
    """
    labels = evaluator.image_set(task, "val").labels
    parameters = dict(evaluator.tower.named_parameters())
    for index in evaluator.draw(task, "val", images, context.seed):
        context.stop_if_cancelled(f"gradients of {task}")
        evaluator.tower.zero_grad(set_to_none=True)
        with torch.enable_grad():
            logits = evaluator.logits(task, evaluator.features(evaluator.images(task, "val", np.array([index]))))[0]
            yield logits, int(labels[index]), parameters
    evaluator.tower.zero_grad(set_to_none=True)


def mean_absolute_gradients(evaluator: Evaluator, task: str, images: int, context: Work) -> dict[str, torch.Tensor]:
    """Mean over images of the absolute gradient of the cross-entropy at the base model, per tensor.

    Args:
        evaluator: whose tower is loaded with the base model.
        task: whose labelled validation images are taken.
        images: at most how many.
        context: seed and cancellation.
    """
    evaluator.load(evaluator.suite.base_checkpoint)
    sums: dict[str, torch.Tensor] = {}
    seen = 0
    for logits, label, parameters in per_image(evaluator, task, images, context):
        target = torch.tensor([label], device=logits.device)
        torch.nn.functional.cross_entropy(logits[None], target).backward()
        seen += 1
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                sums[name] = parameter.grad.abs().float() + sums.get(name, 0)
    return {name: total / seen for name, total in sums.items()}


def fisher_information(
    evaluator: Evaluator, weights: Mapping[str, torch.Tensor], task: str, images: int, context: Work
) -> dict[str, torch.Tensor]:
    """Diagonal Fisher information of a model on unlabeled images, per tensor.

    ``F = mean_x Σ_c p(c|x) (∂ log p(c|x)/∂θ)²``, the expectation over the model's own predictions, exactly.

    Args:
        evaluator: whose tower gets the weights.
        weights: the model at which gradients are taken.
        task: whose validation images are taken, without their labels.
        images: at most how many.
        context: seed and cancellation.
    """
    evaluator.load(weights)
    sums: dict[str, torch.Tensor] = {}
    seen = 0
    for logits, _, parameters in per_image(evaluator, task, images, context):
        seen += 1
        logs = logits.log_softmax(dim=0)
        some = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
        for index, probability in enumerate(logs.detach().exp().tolist()):
            if probability < 1e-4:  # such classes would add next to nothing and cost as much as the others
                continue
            gradients = torch.autograd.grad(logs[index], list(some.values()), retain_graph=True, allow_unused=True)
            for name, gradient in zip(some, gradients, strict=True):
                if gradient is not None:
                    sums[name] = probability * gradient.square().float() + sums.get(name, 0)
    return {name: total / seen for name, total in sums.items()}
