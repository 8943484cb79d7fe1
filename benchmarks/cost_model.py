"""``python -m benchmarks.cost_model``: what a merge costs, counted from shapes, and how long that takes a machine.

Counted are bytes of files, bytes that no cache holds, entries that pass an operation, floating-point operations of
products, decompositions, in units of n³ of the symmetric one in float32, and operations of iterations, each of which
has to be started. What a machine does of each in a second is known of the machines of docs/performance.md, or measured.
Memory is what :mod:`merging.methods.estimate` says.

With ``--compare`` the merges of random models are run, each beside what is counted, in processor time: the machine's
rates are measured in the same minute, so that others who work on it make little difference.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import cast

import torch

from benchmarks.__main__ import ROOT, measure
from benchmarks.random_suite import make_suite, shapes_of
from merging.core.streaming import confine, threads
from merging.methods.edits.awd import AT_ONCE
from merging.methods.estimate import estimate
from merging.methods.pair import Pair
from merging.methods.spec import Spec
from merging.weights.files.checkpoint import TensorInfo
from merging.weights.roles import role_of
from merging.weights.subspace import pays
from merging.weights.vectors import TaskVectors

FLOAT = 4
_HALF = 0.58  # of a symmetric product that is computed, in blocks
_SVD = 2.3  # of a square matrix, in units of the symmetric decomposition
_NEWTON = 17  # steps of Newton and Schulz
_DOUBLE = 2.0  # what float64 takes of float32
_ROUNDS, _DEGREE = 4, 16  # of subspace iteration, and of the polynomial in each, about


@dataclass(frozen=True)
class Cost:
    """What a merge needs done.

    Attributes:
        files: bytes of the files.
        moved: bytes that are read from them again, or from memory since no cache holds them.
        entries: operations on single numbers, in arrays.
        small: floating-point operations of products of a few rows.
        products: floating-point operations of matrix products.
        solved: floating-point operations of Cholesky's factors and of solutions by them.
        cubes: Σ n³ of symmetric decompositions in float32.
        calls: operations that are started, of iterations in which some are so small that this takes longer.
        written: bytes of the result.
    """

    files: float = 0
    moved: float = 0
    entries: float = 0
    small: float = 0
    products: float = 0
    solved: float = 0
    cubes: float = 0
    calls: float = 0
    written: float = 0

    def __add__(self, other: "Cost") -> "Cost":
        """Both."""
        return Cost(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: float) -> "Cost":
        """So many times."""
        return Cost(*(times * one for one in astuple(self)))


@dataclass(frozen=True)
class Rates:
    """What a machine does in a second, all cores together, in the order of :class:`Cost`; and what all merges take."""

    title: str
    each: Cost
    fixed: float

    def seconds(self, cost: Cost) -> float:
        """Of a merge from files to a file."""
        return self.fixed + sum(one / rate for one, rate in zip(astuple(cost), astuple(self.each), strict=True))


TWO_CORES = Rates("two cores", Cost(18.8e9, 18.8e9, 7e9, 2e10, 1.9e11, 9.5e10, 1.78e10, 1e6, 0.7e9), 0.3)
H200 = Rates("H200", Cost(7.9e9, 3e12, 3e11, 4e12, 4.3e13, 2e13, 7.5e10, 1.4e5, 0.9e9), 0.05)


@dataclass(frozen=True)
class Models:
    """Shapes of a base and T models, of which estimates know nothing else.

    Attributes:
        shapes: of every tensor.
        tasks: names, of which only the number counts.
        gpu: whether polar factors and leading singular vectors come by products, see
            :mod:`merging.weights.newton_schulz` and :mod:`merging.weights.subspace`.
    """

    shapes: Mapping[str, tuple[int, ...]]
    tasks: tuple[str, ...]
    gpu: bool = False
    infos: Mapping[str, TensorInfo] = field(init=False)

    def __post_init__(self) -> None:
        infos = {name: TensorInfo(shape, torch.float32) for name, shape in self.shapes.items()}
        object.__setattr__(self, "infos", infos)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the tensors."""
        return tuple(self.shapes)

    def info(self, name: str) -> TensorInfo:
        """Shape and dtype."""
        return self.infos[name]

    @property
    def size(self) -> int:
        """Weights of a model."""
        return sum(torch.Size(shape).numel() for shape in self.shapes.values())

    @property
    def nbytes(self) -> int:
        """Bytes of a model."""
        return FLOAT * self.size

    @property
    def base(self) -> "Models":
        """As large as any model."""
        return self

    @property
    def checkpoints(self) -> tuple["Models", ...]:
        """All models."""
        return (self,) * len(self.tasks)

    def matrices(self, blocks: bool) -> Iterator[tuple[int, int]]:
        """Longer and shorter side of the blocks' linear weights, or of all tensors stored as matrices."""
        for name, shape in self.shapes.items():
            role = role_of(name, shape)
            if role.block_matrix if blocks else role.two_dimensional:
                yield max(shape), min(shape)


def read(models: Models, times: float, operations: float, result: float = 1) -> Cost:
    """All files, so many times, with so many operations on every entry of a task vector in all; and the result."""
    tasks, size = len(models.tasks), models.size
    files = FLOAT * (tasks + 1) * size
    return Cost(files, (times - 1) * files, operations * tasks * size, written=result * FLOAT * size)


def task_arithmetic(models: Models) -> Cost:
    """A weighted sum of the files."""
    return read(models, 1, 1)


def ties(models: Models) -> Cost:
    """Select, elect and merge: three readings, with 9, 4 and 11 operations on an entry."""
    return read(models, 3, 24)


def awd(models: Models) -> Cost:
    """Gram matrices, then a weighted sum."""
    return read(models, 2, 2) + Cost(small=2 * len(models.tasks) ** 2 * models.size)


def awd_rows(models: Models) -> Cost:
    """The same, and for every output row 300 steps in float64 of 6 operations on T² numbers and 24 on T."""
    rows, tasks = sum(shape[0] if len(shape) > 1 else 1 for shape in models.shapes.values()), len(models.tasks)
    entries = 300 * _DOUBLE * rows * (6 * tasks**2 + 24 * tasks)
    at_once = 45 if models.gpu else (37 + 6 * tasks) * math.ceil(rows / AT_ONCE)
    return awd(models) + Cost(entries=entries, calls=300 * at_once)


def gram(m: int, n: int) -> Cost:
    """``MᵀM``."""
    return Cost(products=_HALF * 2 * m * n * n)


def polar(m: int, n: int, gpu: bool) -> Cost:
    """The polar factor of ``[m, n]``, m ≥ n: from a Gram matrix where it is oblong, else by a decomposition."""
    if gpu:
        return Cost(products=4 * m * n * n * _NEWTON)
    if m >= 2 * n:
        return gram(m, n) + Cost(cubes=n**3, products=2 * n**3 + 2 * m * n * n)
    return Cost(cubes=_SVD * n**2 * m, products=2 * m * n * n)


def leading(n: int, count: int, gpu: bool) -> Cost:
    """The first eigenvectors of ``[n, n]``: products and decompositions of a block where they pay, else all of them."""
    if not gpu or not pays(count, n):
        return Cost(cubes=n**3)
    block = count + count // 2
    return Cost(products=_ROUNDS * _DEGREE * 2 * n * n * block, cubes=_ROUNDS * _DOUBLE * block**3)


def triplets(m: int, n: int, count: int, gpu: bool) -> Cost:
    """A matrix's first triplets."""
    return gram(m, n) + leading(n, count, gpu) + Cost(products=2 * m * n * count)


def iso_c(models: Models) -> Cost:
    """Polar factors of sums."""
    return sum((polar(m, n, models.gpu) for m, n in models.matrices(blocks=False)), read(models, 1, 3))


def tsv_m(models: Models) -> Cost:
    """Triplets of every task vector, two polar factors and a product."""
    tasks = len(models.tasks)
    total = read(models, 1, 3)
    for m, n in models.matrices(blocks=False):
        count = max(1, n // tasks)
        joined = count * tasks
        total += triplets(m, n, count, models.gpu) * tasks + Cost(products=2 * m * n * joined)
        total += polar(m, joined, models.gpu) + polar(n, joined, models.gpu)
    return total


def iso_cts(models: Models) -> Cost:
    """The sum's triplets in float64, and those of what every task has outside of the common ones."""
    tasks = len(models.tasks)
    total = read(models, 1, 3)
    for name, shape in models.shapes.items():
        if not role_of(name, shape).two_dimensional:
            continue
        m, n = max(shape), min(shape)
        own = min(round((n - int(0.8 * n)) / tasks), n // tasks)
        common = n - own * tasks
        total += gram(m, n) * _DOUBLE + Cost(cubes=_DOUBLE * n**3, products=2 * m * n * n)
        total += Cost(entries=2 * _DOUBLE * tasks * m * n)
        if shape[0] > shape[1]:  # as in isotropic.py: the left singular vectors are on the longer side
            outside = gram(m, n) + gram(common, n) + Cost(products=2 * m * n * (common + own))
            outside += leading(n, own, models.gpu)
        elif models.gpu:
            outside = gram(m, n) + Cost(products=2 * m * n * (common + own)) + leading(n, own, models.gpu)
        else:
            outside = Cost(products=2 * m * n * (n - common), cubes=(n - common) ** 3)
        beside = Cost(cubes=(2 * own * tasks) ** 3, products=2 * common * own * tasks * n)
        total += outside * tasks + beside + Cost(products=2 * m * n * n)
    return total


def wudi_closed_form(models: Models) -> Cost:
    """``τᵀτ`` and ``τ τᵀτ`` of every task vector, and a linear system a matrix."""
    total = read(models, 1, 3)
    for name, shape in models.shapes.items():
        if not role_of(name, shape).block_matrix:
            continue
        rows, columns = shape
        once = gram(rows, columns) + Cost(products=2 * rows * columns * min(rows, columns))
        if 2 * rows < columns:
            once += gram(columns, rows)
        solve = Cost(solved=columns**3 / 3 + 2 * rows * columns**2, moved=FLOAT * columns**2)
        total += once * len(models.tasks) + solve
    return total


def wudi(models: Models) -> Cost:
    """300 steps of Adam on every matrix, one product each."""
    steps = Cost()
    for name, shape in models.shapes.items():
        if role_of(name, shape).block_matrix:
            steps += Cost(products=2 * shape[0] * shape[1] ** 2, entries=6 * shape[0] * shape[1]) * 300
    return wudi_closed_form(models) + steps + _started(models, 300)


def doge(models: Models) -> Cost:
    """A basis of every matrix, and 400 steps: all task vectors read, two products with the basis, Adam."""
    tasks = len(models.tasks)
    total = read(models, 2, 20)
    for m, n in models.matrices(blocks=True):
        count = max(1, n // tasks)
        joined = count * tasks
        basis = triplets(m, joined, n // 6, True) if models.gpu else Cost(cubes=_SVD * joined**2 * m)
        step = Cost(moved=FLOAT * tasks * m * n, products=4 * m * n * (n // 6), entries=6 * m * n)
        total += triplets(m, n, count, models.gpu) * tasks + basis + step * 400
    return total + _started(models, 400)


def _started(models: Models, steps: int) -> Cost:
    """Ten operations in each step of Adam for all matrices of a shape, on a GPU; cores start them in no time."""
    shapes = set(models.matrices(blocks=True))
    return Cost(calls=10 * steps * len(shapes) if models.gpu else 0)


@dataclass(frozen=True)
class Method:
    """A method that is counted: its title, settings, and name in :mod:`benchmarks.work`."""

    title: str
    settings: str
    work: str
    count: Callable[[Models], Cost]


METHODS = (
    Method("Task Arithmetic", "merge.scaling=0.3", "task_arithmetic", task_arithmetic),
    Method("AWD", "edit=awd merge.scaling=0.3", "awd", awd),
    Method("TIES", "edit=ties merge.scaling=0.3", "ties", ties),
    Method("AWD by rows", "edit=awd edit.scope=row merge.scaling=0.3", "awd_rows", awd_rows),
    Method("Iso-C", "merge=iso_c", "iso_c", iso_c),
    Method("TSV-M", "merge=tsv_m", "tsv_m", tsv_m),
    Method("Iso-CTS", "merge=iso_cts", "iso_cts", iso_cts),
    Method("WUDI, closed form", "merge=wudi merge.solver=closed_form", "wudi_closed_form", wudi_closed_form),
    Method("WUDI, 300 steps", "merge=wudi merge.units=published", "wudi_adam", wudi),
    Method("DOGE, 400 steps", "edit=doge edit.units=published merge.scaling=1.0", "doge", doge),
)


def memory(models: Models, settings: str, device: str = "cpu") -> int:
    """Bytes that a merge is estimated to hold."""
    spec = Spec.build(suite="none", tasks=models.tasks, evaluate=False, **Pair.read(settings).fields)
    return estimate(cast(TaskVectors, models), spec, measurable=False, device=torch.device(device)).total


def here() -> Rates:
    """What one core of this machine does by processor time, while as many as torch works with do the same."""
    cores = threads()
    with ThreadPoolExecutor(cores, initializer=confine) as pool:
        found = list(pool.map(lambda _: _of_one_core(), range(cores)))
    means = (sum(rates) / cores for rates in zip(*found, strict=True))
    return Rates("one core here", Cost(*means, TWO_CORES.each.written), TWO_CORES.fixed)


def _of_one_core() -> tuple[float, ...]:
    matrix, small, piece = torch.randn(768, 768), torch.randn(64, 8, 768), torch.randn(2, 1 << 15)
    square, large = matrix @ matrix.T, torch.ones(1 << 26)
    lower = torch.linalg.cholesky(square + 768 * torch.eye(768))
    summed = large.nbytes / _processor_seconds(large.sum)
    return (
        summed,
        summed,
        piece[0].numel() / _processor_seconds(lambda: piece[0].sub_(piece[1]), 1000),
        2 * 64 * 64 * 768 / _processor_seconds(lambda: small @ small.mT, 20),
        2 * 768**3 / _processor_seconds(lambda: matrix @ matrix),
        2 * 768**3 / _processor_seconds(lambda: torch.cholesky_solve(matrix, lower)),
        768**3 / _processor_seconds(lambda: torch.linalg.eigh(square)),
        1 / _processor_seconds(lambda: piece[0, :8].neg_(), 1000),
    )


def _processor_seconds(work: Callable[[], object], times: int = 1) -> float:
    """Of the calling thread, the median of five tries."""
    found = []
    for _ in range(5):
        started = time.thread_time()
        for _ in range(times):
            work()
        found.append((time.thread_time() - started) / times)
    return statistics.median(found)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--layers", type=int, help="blocks, where fewer than the architecture has")
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--compare", nargs="*", metavar="WORK", help="run these merges, by default those of a minute")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench", help="where random files go")
    options = parser.parse_args()
    shapes = shapes_of(options.architecture, options.layers)
    models = Models(shapes, tuple(f"task{number}" for number in range(options.tasks)))
    print(f"{options.tasks} × {options.architecture}, {models.nbytes / 1e9:.2f} GB a model\n")
    if options.compare is not None:
        name = "-".join(str(part) for part in (options.architecture, options.tasks, options.layers) if part is not None)
        suite = make_suite(options.folder / name, options.architecture, options.tasks, options.layers)
        _compare(models, suite, options.compare or [one.work for one in METHODS[:-2]])
        return
    print("| | GB moved | GFLOP | n³ of decompositions | GB held | two cores, s | H200, s |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for one in METHODS:
        cost = one.count(models)
        seconds = TWO_CORES.seconds(cost), H200.seconds(one.count(replace(models, gpu=True)))
        work = f"{(cost.products + cost.small + cost.solved) / 1e9:.0f} | {cost.cubes / 1e9:.1f}e9"
        held = f"{memory(models, one.settings) / 1e9:.2f}"
        moved = f"{(cost.files + cost.moved) / 1e9:.1f}"
        print(f"| {one.title} | {moved} | {work} | {held} | {seconds[0]:.2g} | {seconds[1]:.2g} |")


def _compare(models: Models, suite: Path, works: Sequence[str]) -> None:
    """A line a method: processor seconds that were counted, and those that it took."""
    print("| | counted | took | took/counted |\n|---|---:|---:|---:|")
    for one in METHODS:
        if one.work in works:
            before = here().seconds(one.count(models))
            took = measure(one.work, suite)["processor"]
            counted = (before + here().seconds(one.count(models))) / 2
            print(f"| {one.title} | {counted:.2f} | {took:.2f} | {took / counted:.2f} |", flush=True)


if __name__ == "__main__":
    main()
