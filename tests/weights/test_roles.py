"""What every tensor of a tower is, and how linear weights become matrices and back."""

import pytest
import torch

from merging.weights.roles import role_of

BLOCK = "transformer.resblocks.3."


@pytest.mark.parametrize(
    ("name", "shape", "kind", "inputs", "block"),
    [
        ("conv1.weight", (16, 3, 4, 4), "linear", "last", False),
        ("proj", (16, 8), "linear", "first", False),
        ("class_embedding", (16,), "embedding", None, False),
        ("positional_embedding", (17, 16), "embedding", None, False),
        ("ln_pre.weight", (16,), "norm", None, False),
        ("ln_post.bias", (16,), "norm", None, False),
        (BLOCK + "ln_1.weight", (16,), "norm", None, True),
        (BLOCK + "attn.in_proj_weight", (48, 16), "linear", "last", True),
        (BLOCK + "attn.in_proj_bias", (48,), "bias", None, True),
        (BLOCK + "attn.out_proj.weight", (16, 16), "linear", "last", True),
        (BLOCK + "attn.out_proj.bias", (16,), "bias", None, True),
        (BLOCK + "mlp.c_fc.weight", (64, 16), "linear", "last", True),
        (BLOCK + "mlp.c_proj.weight", (16, 64), "linear", "last", True),
        (BLOCK + "mlp.c_proj.bias", (16,), "bias", None, True),
        (BLOCK + "ls_1.gamma", (16,), "other", None, True),
        ("layer1.0.conv2.weight", (64, 64, 3, 3), "linear", "last", False),
        ("layer1.0.bn1.weight", (64,), "norm", None, False),
        ("attnpool.positional_embedding", (50, 64), "embedding", None, False),
        ("attnpool.q_proj.weight", (64, 64), "linear", "last", False),
        ("logit_scale", (), "other", None, False),
        ("w", (8, 9), "other", None, False),
        ("conv1.weight", (1, 3, 4, 4), "other", None, False),  # a single row: nothing to decompose
        (BLOCK + "mlp.c_fc.weight", (8, 1), "other", None, True),
    ],
)
def test_what_a_tensor_is(name: str, shape: tuple[int, ...], kind: str, inputs: str | None, block: bool) -> None:
    role = role_of(name, shape)
    assert (role.kind, role.inputs, role.block) == (kind, inputs, block)
    assert role.block_matrix == (kind == "linear" and block)


@pytest.mark.parametrize(
    ("name", "shape", "outputs"),
    [("conv1.weight", (6, 3, 2, 2), 6), ("proj", (6, 5), 5), (BLOCK + "mlp.c_fc.weight", (8, 6), 8)],
)
def test_a_linear_weight_multiplies_inputs_as_the_tower_does(name: str, shape: tuple[int, ...], outputs: int) -> None:
    """As ``[out, in]`` it gives what the layer gives, and it comes back as it was stored."""
    role, weight = role_of(name, shape), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    (matrix,) = role.matrices(weight[None])
    if name == "conv1.weight":
        patch = torch.randn(shape[1:], generator=torch.Generator().manual_seed(1))
        expected, inputs = torch.nn.functional.conv2d(patch[None], weight).flatten(), patch.flatten()
    else:
        inputs = torch.randn(matrix.shape[1], generator=torch.Generator().manual_seed(1))
        expected = inputs @ weight if name == "proj" else torch.nn.functional.linear(inputs, weight)
    assert len(expected) == outputs
    torch.testing.assert_close(matrix @ inputs, expected)
    assert torch.equal(role.stored(matrix), weight)


@pytest.mark.parametrize(("shape", "matrix"), [((2, 3), True), ((4,), False), ((1, 4), False), ((2, 3, 4), False)])
def test_what_counts_as_stored_in_two_dimensions(shape: tuple[int, ...], matrix: bool) -> None:
    assert role_of("positional_embedding", shape).two_dimensional == matrix
