"""The redundant vector from inner products, against the same thing done on whole vectors."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from merging.methods.edits import redundancy
from merging.methods.edits.redundancy import Redundancy, descent, directed, exact, mixing, objective, resolved
from tests.lightly import optimize


def plain_objective(vectors: torch.Tensor, delta: torch.Tensor, alpha: float) -> torch.Tensor:
    """L(δ) for task vectors ``[T, D]``, word by word as in the paper."""
    phi = vectors - delta
    unit = phi / phi.norm(dim=1, keepdim=True)
    count = len(phi)
    pairs = (unit @ unit.T).abs() * (1 - torch.eye(count, dtype=phi.dtype))
    total = pairs.sum() / max(1, count * (count - 1))
    return total + alpha * delta.norm() if bool(delta.any()) else total


def plain_descent(
    vectors: torch.Tensor, alpha: float, rate: float, steps: int
) -> tuple[list[torch.Tensor], list[float]]:
    """Every iterate δ of gradient descent in all D dimensions, and the objective at each."""
    delta = torch.zeros(vectors.shape[1], dtype=vectors.dtype)
    iterates, values = [delta], []
    for _ in range(steps):
        delta = delta.detach().requires_grad_()
        value = plain_objective(vectors, delta, alpha)
        (gradient,) = torch.autograd.grad(value, delta)
        values.append(value.item())
        delta = (delta - rate * gradient).detach()
        iterates.append(delta)
    values.append(float(plain_objective(vectors, delta, alpha)))
    return iterates, values


def sample_vectors(tasks: int, seed: int, dimensions: int = 60, shared: float = 0.7, norm: float = 2.0) -> torch.Tensor:
    """Vectors of about this norm with a part in common."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.randn(tasks, dimensions, generator=generator, dtype=torch.float64)
    common = torch.randn(dimensions, generator=generator, dtype=torch.float64)
    both = own + shared * common
    return both * norm / both.norm(dim=1).mean()


@pytest.mark.parametrize("tasks", [2, 3, 8])
@pytest.mark.parametrize(("alpha", "rate"), [(0.1, 0.01), (0.0, 0.05), (1.0, 0.01)])
def test_descent_gives_the_iterates_of_descent_on_whole_vectors(tasks: int, alpha: float, rate: float) -> None:
    vectors = sample_vectors(tasks, seed=tasks)
    gram = (vectors @ vectors.T).numpy()[None]
    iterates, values = plain_descent(vectors, alpha, rate, steps=120)
    for steps in (0, 1, 2, 7, 40, 120):
        found = descent(gram, alpha, rate, steps)
        delta = torch.as_tensor(found.coefficients[0]) @ vectors
        assert (delta - iterates[steps]).norm() <= 1e-6 * max(1e-9, float(iterates[steps].norm()))
    np.testing.assert_allclose(descent(gram, alpha, rate, 120).curve, values, rtol=1e-9)


def test_descent_lowers_the_objective_and_starts_at_the_mean_cosine() -> None:
    vectors = sample_vectors(4, seed=3)
    curve = descent((vectors @ vectors.T).numpy()[None], 0.1, 0.01, 300).curve
    start = plain_objective(vectors, torch.zeros(60, dtype=torch.float64), 0.1)
    assert curve[0] == pytest.approx(float(start), rel=1e-12)
    assert curve[-1] < 0.6 * curve[0]


@pytest.mark.kernels
def test_a_batch_gives_what_its_problems_give_alone() -> None:
    grams = np.stack([(v @ v.T).numpy() for v in (sample_vectors(3, seed) for seed in range(5))])
    for solver in (descent, exact):
        together = solver(grams, 0.1, 0.01, 50).coefficients
        alone = np.concatenate([solver(gram[None], 0.1, 0.01, 50).coefficients for gram in grams])
        np.testing.assert_allclose(together, alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["apart", "on one line"])
def test_many_problems_are_descended_on_vector_by_vector_to_the_same_end(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of the problems have pairs that pull at nothing, which are looked at one by one."""
    problems = [sample_vectors(5, seed).double().numpy() for seed in range(6)]
    if kind == "on one line":
        problems[2:4] = [np.outer([1, 2, -1, 0.5, 3], problem[0]) for problem in problems[2:4]]
    gram = np.stack([problem @ problem.T for problem in problems])
    together = descent(gram, 0.1, 0.01, 50)
    monkeypatch.setattr(redundancy, "_AT_ONCE", 0)
    by_vector = descent(gram, 0.1, 0.01, 50)
    np.testing.assert_allclose(by_vector.coefficients, together.coefficients, rtol=0, atol=1e-12)
    np.testing.assert_allclose(by_vector.curve, together.curve, rtol=1e-12)


def test_a_single_task_shares_nothing() -> None:
    for solver in (descent, exact):
        found = solver(np.array([[[4.0]]]), 0.1, 0.01, 20)
        assert found.coefficients.tolist() == [[0.0]]
        assert not found.curve.any()


def test_mixing_subtracts_the_same_vector_from_all() -> None:
    vectors = sample_vectors(3, seed=1).numpy()
    coefficients = np.array([0.5, -0.25, 1.0])
    everywhere = np.ones(3, dtype=bool)
    np.testing.assert_allclose(mixing(coefficients, everywhere) @ vectors, vectors - coefficients @ vectors, rtol=1e-12)


@pytest.mark.kernels
@pytest.mark.parametrize("solver", [descent, exact])
@pytest.mark.parametrize("zeros", [(0,), (1, 3), (4, 5, 6)])
def test_a_zero_vector_changes_nothing(solver: Callable[..., Redundancy], zeros: tuple[int, ...]) -> None:
    """Zero vectors put in at these places leave δ as it is, and the others of a batch."""
    vectors = sample_vectors(4, seed=5).numpy()
    total = len(vectors) + len(zeros)
    there = [place for place in range(total) if place not in zeros]
    padded = np.zeros((total, vectors.shape[1]))
    padded[there] = vectors
    full = sample_vectors(total, seed=6).numpy()
    batch = np.stack([padded @ padded.T, full @ full.T, np.zeros((total, total))])
    without = solver((vectors @ vectors.T)[None], 0.1, 0.01, 80)
    other = solver((full @ full.T)[None], 0.1, 0.01, 80)
    found = solver(batch, 0.1, 0.01, 80)
    np.testing.assert_allclose(found.coefficients[0, there], without.coefficients[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.coefficients[1], other.coefficients[0], rtol=1e-9, atol=1e-12)
    assert not found.coefficients[0, list(zeros)].any() and not found.coefficients[2].any()
    np.testing.assert_allclose(found.curve, (without.curve + other.curve) / 3, rtol=1e-9)
    assert objective(batch, found.coefficients, 0.1).mean() == pytest.approx(found.curve[-1])


def test_descent_gets_down_beside_a_zero_vector() -> None:
    vectors = sample_vectors(8, seed=8)
    vectors[3] = 0
    gram = (vectors @ vectors.T).numpy()[None]
    found = descent(gram, 0.1, 0.01, 300)
    assert found.curve[-1] < 0.6 * found.curve[0]
    rest = torch.cat([vectors[:3], vectors[4:]])
    iterates, values = plain_descent(rest, 0.1, 0.01, 300)
    np.testing.assert_allclose(found.curve, values, rtol=1e-9)
    np.testing.assert_allclose(found.coefficients[0] @ vectors.numpy(), iterates[-1].numpy(), rtol=1e-6, atol=1e-9)
    there = directed(gram)
    assert there.tolist() == [[True] * 3 + [False] + [True] * 4]
    edited = mixing(found.coefficients, there)[0] @ vectors.numpy()
    np.testing.assert_allclose(edited[there[0]], (rest - iterates[-1]).numpy(), rtol=1e-6, atol=1e-9)
    assert not edited[3].any()


def vectors_of_kind(kind: str, tasks: int, seed: int) -> np.ndarray:
    """Task vectors whose inner products rounding may blur."""
    free = sample_vectors(tasks, seed).numpy()
    one, tail = free[0], free[1:]
    return {
        "free": lambda: free,
        "equal": lambda: np.tile(one, (tasks, 1)),
        "nearly equal": lambda: one + 1e-4 * free,
        "opposite": lambda: np.where(np.arange(tasks)[:, None] % 2, one, -one),
        "parallel": lambda: np.linspace(1, 2, tasks)[:, None] * one,
        "two equal": lambda: np.vstack([tail[:1], tail]),
        "two nearly equal": lambda: np.vstack([tail[:1] + 1e-4 * free[:1], tail]),
        "dependent": lambda: np.vstack([tail.sum(axis=0), tail]),
        "orthogonal": lambda: 2 * np.linalg.qr(free.T)[0].T,
        "1 % apart": lambda: one + 1e-2 * free,
    }[kind]()


ON_ONE_LINE = ("equal", "nearly equal", "opposite", "parallel")


KINDS = ("free", *ON_ONE_LINE, "two equal", "two nearly equal", "dependent", "orthogonal", "1 % apart")
TIMES = 4  # that the inner products of each kind are summed


@pytest.mark.kernels
@pytest.mark.parametrize(("tasks", "alpha"), [(3, 0.1), (8, 0.1), (8, 0.01)])
@pytest.mark.parametrize("solver", [descent, exact])
def test_rounding_of_inner_products_moves_the_result_by_no_more_than_is_stated(
    solver: Callable[..., Redundancy], tasks: int, alpha: float
) -> None:
    """As another library would have summed them: the bounds in the module's docstring.

    All kinds are solved at once, as a step takes as long for ten problems as for a hundred.
    """
    random = np.random.default_rng(0)
    noise = random.uniform(-2e-6, 2e-6, (len(KINDS), TIMES, tasks, tasks))
    noise[:, 0] = 0
    vectors = np.stack([vectors_of_kind(kind, tasks, seed=tasks) for kind in KINDS])
    grams = vectors @ vectors.transpose(0, 2, 1)
    lengths = np.linalg.norm(vectors, axis=2)
    blur = (noise + np.swapaxes(noise, 2, 3)) / 2 * (lengths[:, :, None] * lengths[:, None])[:, None]
    rounded = grams[:, None] + blur
    solved = solver(rounded.reshape(-1, tasks, tasks), alpha, 0.01, 300).coefficients
    coefficients = solved.reshape(len(KINDS), TIMES, *solved.shape[1:])
    for kind, one, summed, found, longest in zip(
        KINDS, vectors, rounded, coefficients, lengths.max(axis=1), strict=True
    ):
        bound = 1e-6 if kind in ON_ONE_LINE else 2e-2 if kind == "1 % apart" and solver is exact else 5e-3
        moved = np.linalg.norm((found - found[0]) @ one, axis=1)
        assert moved.max() <= bound * longest, kind
        if bound < 2e-2:
            assert np.ptp(objective(summed, found, alpha)) <= bound, kind


@pytest.mark.kernels
@pytest.mark.parametrize("kind", ON_ONE_LINE)
def test_what_differs_by_rounding_alone_is_not_descended_on(kind: str) -> None:
    """The cosines of vectors on one line have no slope, whatever the last digits say."""
    vectors = vectors_of_kind(kind, 5, seed=0)
    gram = (vectors @ vectors.T) * (1 + 1e-7 * np.random.default_rng(1).normal(size=5))
    found = descent((gram + gram.T)[None] / 2, 0.1, 0.01, 300)
    assert not found.coefficients.any()
    assert found.curve[-1] == pytest.approx(found.curve[0], abs=1e-12)


def test_vectors_that_rounding_leaves_apart_are_resolved_to_the_last_bit() -> None:
    apart = np.stack([vectors @ vectors.T for vectors in (vectors_of_kind("free", 4, seed) for seed in range(3))])
    assert resolved(apart) is apart
    steep = np.diag([1e-6, 1.0, 1e6]) @ apart[0, :3, :3] @ np.diag([1e-6, 1.0, 1e6])  # lengths are no reason
    assert np.array_equal(resolved(steep[None])[0], steep)
    vectors = vectors_of_kind("two nearly equal", 4, seed=0)
    (found,) = resolved((vectors @ vectors.T)[None])
    assert np.array_equal(found[0], found[1]) and found[0, 0] == found[0, 1]
    np.testing.assert_allclose(found, vectors @ vectors.T, rtol=1e-3, atol=1e-3)


@st.composite
def gram_matrices(draw: st.DrawFn) -> np.ndarray:
    """Gram matrices of all sorts of vectors, degenerate ones included."""
    tasks = draw(st.integers(1, 8))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rank = draw(st.integers(1, 10))
    vectors = random.normal(size=(tasks, rank)) @ random.normal(size=(rank, 12))
    kind = draw(st.sampled_from(["free", "equal", "opposite", "some zero", "all zero", "nearly equal"]))
    if kind == "equal":
        vectors[:] = vectors[0]
    elif kind == "opposite":
        vectors[tasks // 2 :] = -vectors[0]
    elif kind == "some zero":
        vectors[:: draw(st.integers(1, 3))] = 0
    elif kind == "all zero":
        vectors[:] = 0
    elif kind == "nearly equal":
        vectors = vectors[0] + 1e-5 * vectors
    vectors *= 10.0 ** draw(st.integers(-4, 2))
    return vectors @ vectors.T


@pytest.mark.kernels
@example(5.57e-5 * np.outer([1, -1, -1], [1, -1, -1]), 0.01, 1.0)  # tiny vectors on one line, a step far too long
@example(5.57e-5 * np.outer([1, -1, -1], [1, -1, -1]), 0.0, 1.0)
@example(np.outer([0.042408, -0.044558], [0.042408, -0.044558]), 0.01, 0.01)
@given(gram_matrices(), st.sampled_from([0.0, 0.01, 0.1, 1.0, 10.0]), st.sampled_from([1e-3, 0.01, 1.0]))
def test_exact_is_never_above_descent(gram: np.ndarray, alpha: float, rate: float) -> None:
    walked = descent(gram[None], alpha, rate, 60)
    solved = exact(gram[None], alpha, rate, 60)
    assert np.isfinite(walked.coefficients).all()
    assert np.isfinite(walked.curve).all()
    assert np.isfinite(solved.coefficients).all()
    assert np.isfinite(solved.curve).all()
    assert objective(gram[None], solved.coefficients, alpha) <= objective(gram[None], walked.coefficients, alpha)
    assert solved.curve[-1] <= walked.curve[-1] + 1e-12
    assert solved.curve[-1] <= walked.curve[0] + 1e-12


@pytest.mark.parametrize("tasks", [2, 5])
@pytest.mark.parametrize("alpha", [0.02, 0.1, 0.5])
def test_no_optimiser_beats_exact_even_outside_the_span(tasks: int, alpha: float) -> None:
    """δ may have a part of length p orthogonal to all task vectors; it never helps."""
    vectors = sample_vectors(tasks, seed=10 * tasks, dimensions=30)
    gram = (vectors @ vectors.T).numpy()
    solved = exact(gram[None], alpha, 0.01, 300)
    reached = float(objective(gram[None], solved.coefficients, alpha)[0])
    padded = torch.cat([vectors, torch.zeros(tasks, 1, dtype=torch.float64)], dim=1)

    def free(point: np.ndarray) -> float:
        delta = torch.cat([torch.as_tensor(point[:tasks]) @ vectors, torch.as_tensor(point[tasks:])])
        return float(plain_objective(padded, delta, alpha))

    random = np.random.default_rng(0)
    starts = [np.append(solved.coefficients[0], 0.3), np.full(tasks + 1, 0.1), *random.normal(0, 0.3, (2, tasks + 1))]
    best = min(optimize.minimize(free, start, method="Powell").fun for start in starts)
    assert reached <= best + 1e-4
