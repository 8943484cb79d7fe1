"""Adam on one tensor (Kingma and Ba 2015, arXiv 1412.6980), by torch's own arithmetic.

``torch.optim.Adam`` loads torch's compiler when the first is made, two seconds and a hundred megabytes that nothing
here uses, and counts the GPUs at every step. The function that it takes its steps with does neither.
"""

import torch
from torch.optim.adam import adam


class Adam:
    """Adam with β = (0.9, 0.999), ε = 1e-8 and no decay: the defaults of ``torch.optim.Adam``, whose numbers it gives.

    Args:
        value: what is learned, changed in place; its gradient is read from ``value.grad`` at each step.
        rate: the learning rate.
        fused: whether a step is one pass over the memory, which rounds otherwise.
    """

    def __init__(self, value: torch.Tensor, rate: float, *, fused: bool = False) -> None:
        self.value, self.rate = value, rate
        self._fused = fused or None
        self._means, self._squares = torch.zeros_like(value), torch.zeros_like(value)
        self._steps = torch.zeros((), dtype=torch.float32, device=value.device if fused else "cpu")

    @torch.no_grad()
    def step(self) -> None:
        """Take a step against the gradient."""
        assert self.value.grad is not None
        adam(
            [self.value],
            [self.value.grad],
            [self._means],
            [self._squares],
            [],
            [self._steps],
            fused=self._fused,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.rate,
            weight_decay=0,
            eps=1e-8,
            maximize=False,
        )
