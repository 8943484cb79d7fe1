"""Methods against numpy, on tensors of all kinds that a tower has.

Written from the papers' formulas, with full decompositions in float64 and nothing of the package: a matrix of a block,
a convolution, ``proj`` (stored with its inputs first), embeddings, norms and biases, a tensor that no task changed, and
one that a single task left alone. Which tensors are layers is written out here by name. Methods that look at images are
compared so in files of their own, on whole towers.
"""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from merging.methods import registry
from merging.methods.context import Context
from merging.methods.pair import Pair
from merging.methods.plan import plan
from tests.random_models import random_state, write_models

Stacks = dict[str, np.ndarray]  # name → τ [T, *shape]
Updates = dict[str, np.ndarray]  # name → what is added to the base [*shape]

BLOCKS = ("transformer.resblocks.0.", "transformer.resblocks.1.")
SHAPES: dict[str, tuple[int, ...]] = {
    "class_embedding": (8,),
    "conv1.weight": (8, 3, 2, 2),
    "ln_post.bias": (8,),
    "ln_pre.weight": (8,),
    "positional_embedding": (5, 8),
    "proj": (8, 6),
    BLOCKS[0] + "attn.in_proj_bias": (24,),
    BLOCKS[0] + "attn.in_proj_weight": (24, 8),
    BLOCKS[0] + "attn.out_proj.weight": (8, 8),
    BLOCKS[0] + "mlp.c_fc.weight": (16, 8),
    BLOCKS[0] + "mlp.c_proj.weight": (8, 16),
    BLOCKS[1] + "mlp.c_fc.weight": (16, 8),
    BLOCKS[1] + "mlp.c_proj.weight": (8, 16),
}
STILL, STILL_IN_ONE = BLOCKS[1] + "mlp.c_fc.weight", BLOCKS[1] + "mlp.c_proj.weight"
IN_BLOCKS = tuple(name for name, shape in SHAPES.items() if name.startswith("transformer") and len(shape) == 2)
TWO_DIMENSIONAL = (*IN_BLOCKS, "proj", "positional_embedding")
LINEAR = (*IN_BLOCKS, "proj", "conv1.weight")
TASKS, SPREAD = 3, 0.01


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    base, models = random_state(0, SHAPES), []
    common = random_state(1, SHAPES, SPREAD)
    for task in range(TASKS):
        own = random_state(2 + task, SHAPES, SPREAD)
        models.append({name: base[name] + own[name] + 0.5 * common[name] for name in base})
        models[-1][STILL] = base[STILL]
    models[0][STILL_IN_ONE] = base[STILL_IN_ONE]
    return write_models(tmp_path_factory.mktemp("tower"), base, models)


def matrix_by_matrix(names: tuple[str, ...], merged: Callable[[np.ndarray], np.ndarray], turn: bool = False):  # type: ignore[no-untyped-def]
    """An update by a rule for matrices; other tensors take the mean. With ``turn`` layers are ``[out, in]``."""

    def updates(stacks: Stacks) -> Updates:
        found = {name: stack.mean(axis=0) for name, stack in stacks.items()}
        for name in names:
            stack = stacks[name]
            if not turn:
                found[name] = merged(stack)
            elif name == "proj":
                found[name] = merged(stack.transpose(0, 2, 1)).T
            else:
                found[name] = merged(stack.reshape(TASKS, len(stack[0]), -1)).reshape(stack.shape[1:])
        return found

    return updates


def svd(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.linalg.svd(matrix, full_matrices=False)


def orthogonal(matrix: np.ndarray) -> np.ndarray:
    left, _, right = svd(matrix)
    return left @ right


def iso_c(stack: np.ndarray) -> np.ndarray:
    left, lengths, right = svd(stack.sum(axis=0))
    return lengths.mean() * left @ right


def iso_cts(stack: np.ndarray) -> np.ndarray:
    rank = min(stack.shape[1:])
    own = round((rank - int(0.8 * rank)) / TASKS)
    left, lengths, right = svd(stack.sum(axis=0))
    common = rank - own * TASKS
    u, s, v = [left[:, :common]], [lengths[:common]], [right[:common]]
    for vector in stack:
        a, b, c = svd(vector - u[0] @ u[0].T @ vector)
        if b[0] > 1e-9:
            u, s, v = [*u, a[:, :own]], [*s, b[:own]], [*v, c[:own]]
    return np.concatenate(s).mean() * orthogonal(np.hstack(u)) @ orthogonal(np.vstack(v))


def tsv_m(stack: np.ndarray) -> np.ndarray:
    count = max(1, min(stack.shape[1:]) // TASKS)
    parts = [svd(vector) for vector in stack if vector.any()]
    u, v = np.hstack([p[0][:, :count] for p in parts]), np.vstack([p[2][:count] for p in parts])
    return orthogonal(u) @ np.diag(np.concatenate([p[1][:count] for p in parts])) @ orthogonal(v)


def adam(start: np.ndarray, gradient: Callable[[np.ndarray], np.ndarray], rate: float, steps: int) -> np.ndarray:
    """Kingma and Ba's algorithm as printed."""
    x, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for step in range(1, steps + 1):
        g = gradient(x)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x -= rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return x


def clip_sized(stack: np.ndarray) -> float:
    """How many times longer than CLIP's the vectors of a tensor are, by their root mean square entry."""
    return float(np.sqrt(np.mean([vector**2 for vector in stack if vector.any()])) / 2.5e-4)


def wudi(rate: float, steps: int, relative: bool = False) -> Callable[[np.ndarray], np.ndarray]:
    def merged(stack: np.ndarray) -> np.ndarray:
        vectors = [vector for vector in stack if vector.any()]
        size = clip_sized(stack) if relative else 1.0
        vectors = [vector / size for vector in vectors]

        def gradient(m: np.ndarray) -> np.ndarray:
            parts = [2 * (m - vector) @ vector.T @ vector / (vector**2).sum() for vector in vectors]
            return np.sum(parts, axis=0)

        return size * adam(np.sum(vectors, axis=0), gradient, rate, steps)

    return merged


def wudi_closed(stack: np.ndarray, share: float = 0.01) -> np.ndarray:
    vectors = [vector for vector in stack if vector.any()]
    s = sum(vector.T @ vector / (vector**2).sum() for vector in vectors)
    r = sum(vector @ vector.T @ vector / (vector**2).sum() for vector in vectors)
    ridge = share * np.trace(s) / len(s)
    return (r + ridge * np.sum(vectors, axis=0)) @ np.linalg.inv(s + ridge * np.eye(len(s)))


def ace(threshold: float, relative: bool = False) -> Callable[[np.ndarray], np.ndarray]:
    def merged(stack: np.ndarray) -> np.ndarray:
        size = clip_sized(stack) if relative else 1.0
        vectors = [vector / size for vector in stack if vector.any()]
        if len(vectors) == 1:
            return size * vectors[0]
        lengths = np.array([(vector**2).sum() for vector in vectors])
        unequal = np.log(lengths).var(ddof=1) / np.log(lengths).mean() ** 2 > threshold
        centred = [vector - vector.mean(axis=0) for vector in vectors]
        covariances = [one.T @ one for one in centred]
        traces = [np.trace(one) if unequal else 1.0 for one in covariances]
        covariances = [one / trace for one, trace in zip(covariances, traces, strict=True)]
        eye = np.eye(len(covariances[0]))
        regular = [one + 0.01 / trace * eye for one, trace in zip(covariances, traces, strict=True)]
        prior = np.tile(sum(covariances).mean(axis=0), (len(eye), 1)) / (lengths.mean() if unequal else 1)
        product = sum(one @ sigma for one, sigma in zip(centred, regular, strict=True))
        update = product @ np.linalg.inv(sum(regular) + prior)
        count = int(0.3 * min(stack.shape[1:]))
        if unequal and count:
            mean = sum(regular) / len(regular)
            gaps = [vector @ (sigma - mean) for vector, sigma in zip(vectors, covariances, strict=True)]
            left, values, right = svd(update + sum(gaps))
            update = update + values[:count].mean() * left[:, :count] @ right[:count]
        return size * update

    return merged


def calibrated(update: np.ndarray, stack: np.ndarray, alpha: float) -> np.ndarray:
    """Singular value calibration, direction by direction and task by task."""
    left, lengths, right = svd(update)
    vectors = [vector for vector in stack if vector.any()]
    for r in range(len(lengths) if vectors else 0):
        along, shares = lengths[r] * right[r], []
        for vector in vectors:
            own = left[:, r] @ vector
            there = own @ own > 1e-10 * (vector**2).sum()
            shares.append(max(alpha, along @ own / (own @ own) if there else 0.0))
        lengths[r] *= len(vectors) / sum(shares)
    return left @ np.diag(lengths) @ right


def svc(names: tuple[str, ...], turn: bool = False) -> Callable[[Stacks], Updates]:
    def updates(stacks: Stacks) -> Updates:
        rule = matrix_by_matrix(names, lambda stack: calibrated(0.3 * stack.sum(axis=0), stack, 0.1), turn)
        found = rule(stacks)
        return {name: found[name] if name in names else 0.3 * stack.sum(axis=0) for name, stack in stacks.items()}

    return updates


def then_svc(merged: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda stack: calibrated(merged(stack), stack, 1.0)


def where_some(merged: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Nothing comes of nothing."""
    return lambda stack: merged(stack) if stack.any() else np.zeros(stack.shape[1:])


def flat(stacks: Stacks, names: tuple[str, ...] = tuple(SHAPES)) -> np.ndarray:
    return np.hstack([stacks[name].reshape(TASKS, -1) for name in names])


def limits_of(stacks: Stacks, names: tuple[str, ...], keep: float) -> np.ndarray:
    """Each task's smallest magnitude of its largest ones, over all these tensors."""
    magnitudes = np.sort(np.abs(flat(stacks, names)), axis=1)
    return magnitudes[:, -int(keep * magnitudes.shape[1])]


def spread_out(limits: np.ndarray, stack: np.ndarray) -> np.ndarray:
    return limits.reshape(-1, *[1] * (stack.ndim - 1))


def ties(stacks: Stacks) -> Updates:
    limits = limits_of(stacks, tuple(SHAPES), 0.2)
    found = {}
    for name, stack in stacks.items():
        kept = np.where(np.abs(stack) >= spread_out(limits, stack), stack, 0)
        sign = np.sign(kept.sum(axis=0))
        found[name] = np.where(np.sign(kept) == sign, kept, 0).sum(axis=0)
    return found


def consensus(stacks: Stacks) -> Updates:
    found = {}
    for name, stack in stacks.items():
        total = stack.sum(axis=0)
        masks = np.abs(stack) > 0.4 * np.abs(total - stack)
        found[name] = total * (masks.sum(axis=0) >= 2)
    return found


def tatr(stacks: Stacks) -> Updates:
    def sensitivity(stack: np.ndarray) -> np.ndarray:
        pairs = [np.abs(a) * np.abs(b) for i, a in enumerate(stack) for j, b in enumerate(stack) if i != j]
        return np.sum(pairs, axis=0)

    all_of_them = np.sort(np.concatenate([sensitivity(stack).ravel() for stack in stacks.values()]))
    limit = all_of_them[-1 - int(0.1 * len(all_of_them))]
    return {n: np.where(sensitivity(stack) <= limit * (1 + 1e-6), stack, 0).sum(axis=0) for n, stack in stacks.items()}


def doge(names: tuple[str, ...], strength: float, rate: float, relative: bool = False) -> Callable[[Stacks], Updates]:
    def updates(stacks: Stacks) -> Updates:
        limits, eta = limits_of(stacks, names, 0.3), strength
        if relative:
            lengths = [np.linalg.norm(vector) for name in names for vector in stacks[name] if vector.any()]
            eta = strength * np.sqrt(np.mean(np.square(lengths))) / 0.29
        found = {name: np.zeros(shape) for name, shape in SHAPES.items()}
        for name in names:
            stack = stacks[name]
            if not stack.any():
                continue
            matrices = stack.transpose(0, 2, 1) if name == "proj" else stack.reshape(TASKS, len(stack[0]), -1)
            weights = np.array([eta / np.linalg.norm(vector) if vector.any() else 0.0 for vector in stack])
            size = clip_sized(stack) if relative else 1.0
            delta = size * descend(matrices / size, weights, rate)
            delta = (delta.T if name == "proj" else delta).reshape(stack.shape[1:])
            kept = np.abs(stack) >= spread_out(limits, stack)
            found[name] = (spread_out(weights, stack) * kept * (stack + delta)).sum(axis=0)
        return found

    def descend(stack: np.ndarray, weights: np.ndarray, rate: float) -> np.ndarray:
        rank = min(stack.shape[1:])
        tops = [svd(vector)[0][:, : rank // TASKS] for vector in stack if vector.any()]
        shared = svd(np.hstack(tops))[0][:, : int(rank / 6)]
        merged = np.tensordot(weights, stack, 1)

        def gradient(delta: np.ndarray) -> np.ndarray:
            total = np.zeros_like(delta)
            for vector in stack:
                rows = (vector * (vector - merged - weights.sum() * delta)).sum(axis=1)
                total -= 2 * weights.sum() * rows[:, None] * vector
            return total - shared @ (shared.T @ total)

        return adam(np.zeros_like(merged), gradient, rate, 12)

    return updates


def overlap_scaled(stacks: Stacks) -> Updates:
    """WUDI's closed form, then every layer times exp(−3 · mean cosine of the tasks' Gram matrices), of mean one."""
    factors = {}
    for name in LINEAR:
        matrices = [v.T if name == "proj" else v.reshape(len(v), -1) for v in stacks[name] if v.any()]
        if matrices:
            grams = [(matrix.T @ matrix).ravel() for matrix in matrices]
            pairs = [one @ two / np.linalg.norm(one) / np.linalg.norm(two) for one, two in combinations(grams, 2)]
            factors[name] = np.exp(-3 * np.mean(pairs))
    total = np.mean(list(factors.values()))
    found = matrix_by_matrix(LINEAR, where_some(lambda stack: wudi_closed(stack, 0.03)), turn=True)(stacks)
    return found | {name: found[name] * factor / total for name, factor in factors.items()}


def awd(scope: str) -> Callable[[Stacks], Updates]:
    """The redundant vector of the whole model, of every tensor or of every row, by plain descent on all its entries."""

    def disentangled(vectors: np.ndarray) -> np.ndarray:
        some = vectors.any(axis=1)
        own = vectors[some]
        if len(own) < 2:
            return vectors
        size = 2 / np.sqrt((own**2).sum(axis=1).mean())
        delta = np.zeros(own.shape[1])
        for _ in range(8):
            phi = size * own - delta
            lengths = np.linalg.norm(phi, axis=1)
            unit = phi / lengths[:, None]
            cosines = unit @ unit.T
            slope = 0.1 * delta / np.linalg.norm(delta) if delta.any() else np.zeros_like(delta)
            for i, j in [(i, j) for i in range(len(own)) for j in range(len(own)) if i != j]:
                pull = np.sign(cosines[i, j]) * (unit[j] - cosines[i, j] * unit[i]) / lengths[i]
                slope = slope - 2 / len(own) / (len(own) - 1) * pull
            delta = delta - 0.01 * slope
        return vectors - np.outer(some, delta / size)

    def updates(stacks: Stacks) -> Updates:
        if scope == "model":
            ends = np.cumsum([stack[0].size for stack in stacks.values()])[:-1]
            parts = np.split(disentangled(flat(stacks)), ends, axis=1)
            return {name: part.sum(axis=0).reshape(SHAPES[name]) for name, part in zip(stacks, parts, strict=True)}
        found = {}
        for name, stack in stacks.items():
            rows = stack.reshape(TASKS, len(stack[0]) if scope == "row" and stack.ndim > 2 else 1, -1)
            edited = np.stack([disentangled(rows[:, number]) for number in range(rows.shape[1])], axis=1)
            found[name] = edited.sum(axis=0).reshape(SHAPES[name])
        return found

    return updates


def larv(stacks: Stacks) -> Updates:
    """Two blocks: that with the smaller score by half, the other one and a half times."""
    base = {name: tensor.double().numpy() for name, tensor in random_state(0, SHAPES).items()}

    def rank(matrix: np.ndarray) -> float:
        shares = svd(matrix)[1] ** 2 / (matrix**2).sum()
        return float(np.exp(-(shares * np.log(shares)).sum()))

    def conflict(one: np.ndarray, other: np.ndarray) -> float:
        sides = np.linalg.norm(one @ other.T - other @ one.T) + np.linalg.norm(one.T @ other - other.T @ one)
        return float(sides / 2 / np.linalg.norm(one) / np.linalg.norm(other))

    measures = []
    for block in BLOCKS:
        names = [name for name in IN_BLOCKS if name.startswith(block)]
        pairs = [(base[name], vector) for name in names for vector in stacks[name] if vector.any()]
        measures.append(np.mean([(rank(one) / rank(other), conflict(one, other)) for one, other in pairs], axis=0))
    contrasts, conflicts = np.array(measures).T
    standard = (conflicts - conflicts.mean()) / conflicts.std()
    scores = contrasts * np.sqrt([0.5, 1.0]) / (1 + np.log(1 + np.exp(standard)))
    scales = {BLOCKS[place]: scale for place, scale in zip(scores.argsort(), (0.5, 1.5), strict=True)}
    scale_of = {name: next((s for block, s in scales.items() if name.startswith(block)), 1.0) for name in stacks}
    return {name: scale_of[name] * stack.sum(axis=0) for name, stack in stacks.items()}


def mean(stacks: Stacks) -> Updates:
    return {name: stack.mean(axis=0) for name, stack in stacks.items()}


def weighted(stacks: Stacks) -> Updates:
    return {name: np.tensordot([0.5, -0.25, 1.0], stack, 1) for name, stack in stacks.items()}


REFERENCES: dict[str, Callable[[Stacks], Updates]] = {
    "merge=average": mean,
    "merge=task_arithmetic merge.scaling=0.5 merge.weights=1,-0.5,2": weighted,
    "edit=none": lambda stacks: {name: stack.sum(axis=0) for name, stack in stacks.items()},
    "edit=awd edit.steps=8 edit.units=relative": awd("model"),
    "edit=awd edit.steps=8 edit.scope=layer": awd("layer"),
    "edit=awd edit.steps=8 edit.scope=row": awd("row"),
    "edit=larv": larv,
    "edit=ties": ties,
    "edit=consensus": consensus,
    "edit=trust_region edit.drop=0.1": tatr,
    "merge=iso_c": matrix_by_matrix(TWO_DIMENSIONAL, iso_c),
    "merge=iso_c merge.layers=all_linear": matrix_by_matrix(LINEAR, iso_c, turn=True),
    "merge=iso_cts": matrix_by_matrix(TWO_DIMENSIONAL, where_some(iso_cts)),
    "merge=iso_cts merge.layers=all_linear": matrix_by_matrix(LINEAR, where_some(iso_cts), turn=True),
    "merge=tsv_m": matrix_by_matrix(TWO_DIMENSIONAL, where_some(tsv_m)),
    "merge=tsv_m merge.layers=all_linear": matrix_by_matrix(LINEAR, where_some(tsv_m), turn=True),
    "merge=wudi merge.learning_rate=1e-4 merge.steps=15 merge.units=published": matrix_by_matrix(
        IN_BLOCKS, where_some(wudi(1e-4, 15))
    ),
    "merge=wudi merge.learning_rate=1e-4 merge.steps=9 merge.layers=all_linear merge.units=published": matrix_by_matrix(
        LINEAR, where_some(wudi(1e-4, 9)), turn=True
    ),
    "merge=wudi merge.steps=15 merge.units=relative": matrix_by_matrix(
        IN_BLOCKS, where_some(wudi(1e-5, 15, relative=True))
    ),
    "merge=wudi merge.solver=closed_form": matrix_by_matrix(IN_BLOCKS, where_some(wudi_closed)),
    "merge=wudi merge.solver=closed_form merge.layers=all_linear": matrix_by_matrix(
        LINEAR, where_some(wudi_closed), turn=True
    ),
    "merge=ace": matrix_by_matrix(TWO_DIMENSIONAL, where_some(ace(0.3))),
    "merge=ace merge.threshold=0": matrix_by_matrix(TWO_DIMENSIONAL, where_some(ace(0.0))),
    "merge=ace merge.units=relative": matrix_by_matrix(TWO_DIMENSIONAL, where_some(ace(0.3, relative=True))),
    "merge=ace merge.threshold=0 merge.layers=all_linear": matrix_by_matrix(LINEAR, where_some(ace(0.0)), turn=True),
    "merge=svc": svc(TWO_DIMENSIONAL),
    "merge=svc merge.layers=all_linear": svc(LINEAR, turn=True),
    "merge=tsv_m merge.calibration=1": matrix_by_matrix(TWO_DIMENSIONAL, then_svc(where_some(tsv_m))),
    "merge=ace merge.calibration=1": matrix_by_matrix(TWO_DIMENSIONAL, then_svc(where_some(ace(0.3)))),
    "merge=wudi merge.solver=closed_form merge.calibration=1 merge.layers=all_linear": matrix_by_matrix(
        LINEAR, then_svc(where_some(wudi_closed)), turn=True
    ),
    "edit=parts": matrix_by_matrix(IN_BLOCKS, where_some(wudi_closed)),
    "edit=parts edit.layers=all_linear": matrix_by_matrix(LINEAR, where_some(wudi_closed), turn=True),
    "edit=parts edit.of=tsv_m": matrix_by_matrix(TWO_DIMENSIONAL, where_some(tsv_m)),
    "merge=overlap": overlap_scaled,
    "edit=doge edit.steps=12 edit.units=published": doge(IN_BLOCKS, 0.07, 1e-4),
    "edit=doge edit.steps=12 edit.layers=all_linear edit.units=published": doge(LINEAR, 0.07, 1e-4),
    "edit=doge edit.steps=12 edit.units=relative": doge(IN_BLOCKS, 0.07, 1e-4, relative=True),
}


@pytest.mark.parametrize("settings", REFERENCES)
def test_it_is_the_formula_on_every_kind_of_tensor(models, settings: str) -> None:  # type: ignore[no-untyped-def]
    pair = Pair.read(settings)
    if "merge.scaling" not in settings and pair.scaling is not None:
        pair = pair.with_scaling(1.0)
    bases = {name: models.base[name].double().numpy() for name in SHAPES}
    stacks = {
        name: np.stack([model[name].double().numpy() - base for model in models.checkpoints])
        for name, base in bases.items()
    }
    expected = REFERENCES[settings](stacks)
    found = dict(plan(models, pair, Context()).tensors())
    assert found.keys() == SHAPES.keys()
    for name, tensor in found.items():
        update = tensor.double().numpy() - bases[name]
        scale = max(np.abs(expected[name]).max(), SPREAD)
        np.testing.assert_allclose(update / scale, expected[name] / scale, rtol=0, atol=1e-3, err_msg=name)


def emr(stacks: Stacks) -> list[Updates]:
    """The largest entry of the elected sign for those who have that sign, each task's times its factor."""
    elected = {}
    for name, stack in stacks.items():
        sign = np.where(stack.sum(axis=0) > 0, 1.0, -1.0)
        elected[name] = sign * np.where(stack * sign > 0, np.abs(stack), 0).max(axis=0)
    served = []
    for task in range(TASKS):
        parts = {name: elected[name] * (stacks[name][task] * elected[name] > 0) for name in stacks}
        own = sum(np.abs(stacks[name][task]).mean() for name in stacks)
        served.append({n: own / sum(np.abs(part).mean() for part in parts.values()) * parts[n] for n in stacks})
    return served


def tall_masks(stacks: Stacks) -> list[Updates]:
    """The sum, where a task's own part outweighs four tenths of the rest."""
    totals = {name: stack.sum(axis=0) for name, stack in stacks.items()}
    return [
        {
            name: total * (abs(stacks[name][task]) > 0.4 * abs(total - stacks[name][task]))
            for name, total in totals.items()
        }
        for task in range(TASKS)
    ]


LOCALISED = {"emr": emr, "tall_masks": tall_masks}


@pytest.mark.parametrize("merge", LOCALISED)
def test_a_model_for_each_task_is_the_formula_on_every_kind_of_tensor(models, merge: str) -> None:  # type: ignore[no-untyped-def]
    bases = {name: models.base[name].double().numpy() for name in SHAPES}
    stacks = {n: np.stack([m[n].double().numpy() - base for m in models.checkpoints]) for n, base in bases.items()}
    planned = plan(models, Pair.of(merge=merge), Context())
    tensors = dict(planned.tensors())
    for task, expected in zip(models.tasks, LOCALISED[merge](stacks), strict=True):
        served = planned.served(tensors, task)
        for name, update in expected.items():
            found = served[name].double().numpy() - bases[name]
            np.testing.assert_allclose(found, update, rtol=0, atol=1e-3 * SPREAD, err_msg=name)


def test_dare_leaves_out_or_scales_up_every_kind_of_tensor(models) -> None:  # type: ignore[no-untyped-def]
    """Which entries is drawn; how many, and what becomes of the others, is not."""
    pair = Pair.read("edit=dare edit.drop=0.75")
    edited = models.edited(plan(models, pair, Context()).edit)
    kept = []
    for name, _, stack in edited.iterate():
        whole, found = models.stack(name)[1].numpy(), stack.numpy()
        kept.append((found != 0)[whole != 0])
        np.testing.assert_allclose(found, np.where(found != 0, 4 * whole, 0), rtol=1e-6)
    share = np.concatenate(kept)
    assert abs(share.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / share.size)


# Where methods that look at images are compared with the obvious way: on a whole tower, with hooks or autograd.
WITH_IMAGES = {
    "adamerging": "test_the_gradient_is_that_of_autograd_through_the_merge",
    "fisher": "test_every_entry_is_averaged_by_its_information",
    "regmean": "test_merged_weights_are_the_solution",
    "regmean_plus_plus": "test_regmean_plus_plus_fits_block_after_block",
}


def test_every_method_is_compared_with_an_independent_implementation() -> None:
    words = {word for settings in REFERENCES for word in settings.split()}
    assert {f"edit={name}" for name in registry.edits()} - words == {"edit=dare"}
    others = {f"merge={name}" for name in (*WITH_IMAGES, *LOCALISED)}
    assert {f"merge={name}" for name in registry.merges()} - words == others
    texts = "".join(path.read_text("utf-8") for path in (Path(__file__).parent / "merges").glob("test_*.py"))
    assert [name for name in WITH_IMAGES.values() if f"def {name}(" not in texts] == []


@pytest.mark.parametrize(
    "settings",
    [
        "merge=wudi merge.steps=20 merge.units=relative",
        "edit=doge edit.steps=20 edit.units=relative",
        "edit=awd edit.steps=20 edit.units=relative",
        "edit=awd edit.steps=20 edit.units=relative edit.solver=adam edit.beta=1e-5",
        "edit=awd edit.steps=20 edit.units=relative edit.solver=adam edit.beta=1e-5 edit.scope=layer",
    ],
)
def test_relative_settings_do_not_depend_on_the_size_of_the_weights(tmp_path: Path, settings: str) -> None:
    """A hundred times longer task vectors give a hundred times the update; with the settings as printed they don't."""
    base = {name: 0 * tensor for name, tensor in random_state(0, SHAPES).items()}

    def update(units: str, factor: float) -> np.ndarray:
        models = [{n: factor * t for n, t in random_state(1 + task, SHAPES, SPREAD).items()} for task in range(TASKS)]
        vectors = write_models(tmp_path / f"{units}{factor}", base, models)
        pair = Pair.read(settings.replace("relative", units)).with_scaling(1.0)
        return np.concatenate([t.double().numpy().ravel() for _, t in plan(vectors, pair, Context()).tensors()])

    for units, same in (("relative", True), ("published", False)):
        small, large = update(units, 1.0), update(units, 128.0) / 128
        assert (np.linalg.norm(large - small) < 1e-3 * np.linalg.norm(small)) == same
