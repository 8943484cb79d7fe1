"""Masks as bits."""

import numpy as np
import pytest
import torch

from merging.weights.localised import packed_bits


@pytest.mark.parametrize("size", [1, 8, 21, 64])
def test_bits_packed_on_a_device_are_numpys(size: int, device: torch.device) -> None:
    masks = torch.rand(3, size, generator=torch.Generator().manual_seed(size)) < 0.5
    assert np.array_equal(packed_bits(masks.to(device)).cpu().numpy(), np.packbits(masks.numpy(), axis=1))
