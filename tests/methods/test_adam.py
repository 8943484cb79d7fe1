"""Adam gives torch's numbers, bit by bit."""

import pytest
import torch

from merging.methods.adam import Adam


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_steps_are_those_of_torch(fused: bool, kind: torch.dtype, device: torch.device) -> None:
    torch.manual_seed(0)
    ours = torch.randn(50, 8, dtype=kind, device=device).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    one = Adam(ours, 3e-2, fused=fused)
    other = torch.optim.Adam([theirs], lr=3e-2, **({"fused": True} if fused else {}))
    for _ in range(40):
        gradient = torch.randn(50, 8, dtype=kind, device=device)
        ours.grad, theirs.grad = gradient.clone(), gradient
        one.step()
        other.step()
        assert torch.equal(ours, theirs)
