"""Fine-tuning of the image tower on one task, its zero-shot head frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from studies.mini_suite.canvas import Pixels
from studies.mini_suite.data import Labels
from studies.mini_suite.model import fast, shifted, to_input


@dataclass(frozen=True)
class FineTuningPlan:
    """Settings of fine-tuning: gentle, so that the task vectors stay small and can be added."""

    steps: int = 250
    batch: int = 64
    learning_rate: float = 2e-4
    gradient_clip: float = 1.0


def _batches(count: int, size: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    while True:
        order = rng.permutation(count)
        for start in range(0, max(1, count - size + 1), size):
            yield order[start : start + size]


def fine_tune(
    visual: nn.Module,
    head: Tensor,
    logit_scale: float,
    images: Pixels,
    labels: Labels,
    plan: FineTuningPlan,
    seed: int,
    on_step: Callable[[int], None],
) -> None:
    """Train what is not frozen of the image tower, in place and where it is, on cross entropy with a frozen head."""
    device = next(visual.parameters()).device
    visual.train()
    learning = [parameter for parameter in visual.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=plan.learning_rate, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.learning_rate, total_steps=plan.steps)
    generator = torch.Generator().manual_seed(seed)
    batches = _batches(len(labels), plan.batch, np.random.default_rng([seed, 13]))
    head, targets = head.to(device), torch.from_numpy(labels).to(device)
    for step in range(plan.steps):
        batch = next(batches)
        with fast(device):
            features = visual(shifted(to_input(images[batch]).to(device), generator, 1))
        logits = logit_scale * functional.normalize(features.float(), dim=-1) @ head.T
        loss = functional.cross_entropy(logits, targets[torch.from_numpy(batch).to(device)])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learning, plan.gradient_clip)
        optimizer.step()
        schedule.step()
        on_step(step + 1)
