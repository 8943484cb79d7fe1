"""``python -m benchmarks.agreement``: our numbers beside FusionBench's, on random tensors of a small tower.

Prints the relative error of the methods that both have, ``‖ours − theirs‖ / ‖theirs‖`` over the whole update. It has
no ACE and no LARV; its RegMean++ takes models of transformers and their data sets, and is not compared.
FusionBench is no dependency: it wants an environment of its own that also sees this one's packages, see
docs/performance.md. Both are given tensors with open_clip's names and shapes, so that layouts make no difference.
"""

import contextlib
import importlib.metadata
import io
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from merging.methods.context import Context
from merging.methods.pair import Pair
from merging.methods.plan import plan
from merging.weights.files import open_checkpoint, save_tensors
from merging.weights.files.reading import TensorInfo
from merging.weights.vectors import TaskVectors

State = dict[str, torch.Tensor]
BLOCK = "transformer.resblocks.{}."
SHAPES: dict[str, tuple[int, ...]] = {
    "class_embedding": (96,),
    "conv1.weight": (96, 3, 4, 4),
    "positional_embedding": (17, 96),
    "proj": (96, 64),
    **{
        BLOCK.format(number) + name: shape
        for number in range(2)
        for name, shape in {
            "attn.in_proj_weight": (288, 96),
            "attn.out_proj.weight": (96, 96),
            "ln_1.weight": (96,),
            "mlp.c_fc.weight": (384, 96),
            "mlp.c_fc.bias": (384,),
            "mlp.c_proj.weight": (96, 384),
        }.items()
    },
}
TASKS, SPREAD = 4, 2.5e-4  # entries of the size that CLIP's task vectors have


def models() -> tuple[State, list[State]]:
    """A base, and models whose task vectors have a part in common."""

    def noise(seed: int, scale: float) -> State:
        generator = torch.Generator().manual_seed(seed)
        return {name: scale * torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}

    base, common = noise(0, 0.02), noise(1, SPREAD / 2)
    own = [noise(2 + task, SPREAD) for task in range(TASKS)]
    return base, [{name: base[name] + common[name] + one[name] for name in base} for one in own]


def ours(base: State, fine_tuned: list[State], settings: str) -> State:
    """The update by this package, from files; of a localised merge those of all tasks, under ``number/name``."""
    infos = {name: TensorInfo(tuple(tensor.shape), torch.float32) for name, tensor in sorted(base.items())}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.safetensors" for number in range(len(fine_tuned) + 1)]
        for file, state in zip(files, [base, *fine_tuned], strict=True):
            save_tensors(file, infos, sorted(state.items()))
        first, *others = map(open_checkpoint, files)
        vectors = TaskVectors(first, tuple(others), tuple(f"task{number}" for number in range(len(others))))
        merge = plan(vectors, Pair.read(settings), Context())
        tensors = dict(merge.tensors())
        if not merge.per_task:
            return {name: tensor - base[name] for name, tensor in tensors.items()}
        served = [merge.served(tensors, task) for task in vectors.tasks]
        return {f"{number}/{name}": one[name] - base[name] for number, one in enumerate(served) for name in base}


def sums(vectors: list[State], factor: float) -> State:
    """The sum of the task vectors times a factor."""
    return {name: factor * torch.stack([state[name] for state in vectors]).sum(dim=0) for name in vectors[0]}


def matrices(state: State, in_blocks: bool) -> list[str]:
    """Names of the matrices in the blocks, or of those outside."""
    return [name for name, tensor in state.items() if ("resblocks" in name) == in_blocks and tensor.dim() == 2]


def wudi(vectors: list[State], steps: int = 300) -> State:
    """FusionBench takes every matrix; those outside of the blocks are excluded, as this package does."""
    from fusion_bench.method.wudi.wudi import wudi_merging  # type: ignore[import-not-found]

    outside = matrices(vectors[0], in_blocks=False)
    found: State = wudi_merging(vectors, accelerator="cpu", iter_num=steps, exclude_keys=outside)
    return found


def iso_c(vectors: list[State]) -> State:
    """Iso-C."""
    from fusion_bench.method.isotropic_merging.iso_utils import iso_c as merged  # type: ignore[import-not-found]

    found: State = merged(vectors, accelerator="cpu")
    return found


def iso_cts(vectors: list[State]) -> State:
    """Iso-CTS."""
    from fusion_bench.method.isotropic_merging.iso_utils import iso_cts as merged

    found: State = merged(vectors, common_space_fraction=0.8, accelerator="cpu")
    return found


def tsv_m(vectors: list[State]) -> State:
    """TSV-M."""
    from fusion_bench.method.task_singular_vector.utils import TSVM_utils  # type: ignore[import-not-found]

    found: State = TSVM_utils.compute_and_sum_svd_mem_reduction(vectors, accelerator="cpu")
    return found


def emr(vectors: list[State]) -> State:
    """EMR: what every task is served with."""
    from fusion_bench.method.emr_merging.utils import emr_merge  # type: ignore[import-not-found]

    elected, masks, factors = emr_merge(vectors)
    return {
        f"{number}/{name}": factors[number] * masks[name][number] * vector
        for number in range(len(vectors))
        for name, vector in elected.items()
    }


def svc(base: State, fine_tuned: list[State], merged: State, alpha: float) -> State:
    """Singular value calibration of an update: of every matrix, as FusionBench's algorithm does with a merged model."""
    from fusion_bench.method.singular_value_calibration.utils import (  # type: ignore[import-not-found]
        subspace_consistency_spectral_calibration as calibrated,
    )

    found = dict(merged)
    for name, update in merged.items():
        if update.dim() == 2:
            own = [state[name] for state in fine_tuned]
            found[name] = calibrated(base[name], own, base[name] + update, alpha, None) - base[name]
    return found


class _Tower(torch.nn.Module):
    """The blocks' matrices as FusionBench finds them: weights under ``encoder``."""

    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.encoder = torch.nn.ModuleDict()
        for name in matrices(dict(state), in_blocks=True):
            rows, columns = state[name].shape
            layer = torch.nn.Linear(columns, rows, bias=False)
            layer.weight.data.copy_(state[name])
            self.encoder[name.replace(".", "_")] = layer


def doge(base: State, fine_tuned: list[State]) -> State:
    """DOGE TA, with its 400 steps."""
    from fusion_bench.method.doge_ta.doge_ta import DOGE_TA_Algorithm  # type: ignore[import-not-found]

    named = {f"task{number}": _Tower(state) for number, state in enumerate(fine_tuned)}
    merged = DOGE_TA_Algorithm(subspace=6, K=30, lamda=0.07).run({"_pretrained_": _Tower(base), **named})
    within = matrices(base, in_blocks=True)
    found = {name: merged.encoder[name.replace(".", "_")].weight.detach() - base[name] for name in within}
    return {**{name: torch.zeros_like(tensor) for name, tensor in base.items()}, **found}


def main() -> None:
    """Print a line a method."""
    try:
        version = importlib.metadata.version("fusion-bench")
    except importlib.metadata.PackageNotFoundError:
        sys.exit("fusion-bench is not installed here; docs/performance.md says how to make an environment that has it")
    base, fine_tuned = models()
    vectors = [{name: state[name] - base[name] for name in base} for state in fine_tuned]
    rows: dict[str, tuple[str, Callable[[], Any]]] = {
        "Iso-C": ("merge=iso_c", lambda: iso_c(vectors)),
        "Iso-CTS": ("merge=iso_cts", lambda: iso_cts(vectors)),
        "TSV-M": ("merge=tsv_m", lambda: tsv_m(vectors)),
        "WUDI": ("merge=wudi", lambda: wudi(vectors)),
        "EMR": ("merge=emr", lambda: emr(vectors)),
        "SVC, sum": ("merge=svc merge.scaling=1.0", lambda: svc(base, fine_tuned, sums(vectors, 0.3), 0.1)),
        "SVC, TSV-M": (
            "merge=tsv_m merge.calibration=1",
            lambda: svc(base, fine_tuned, ours(base, fine_tuned, "merge=tsv_m"), 1.0),
        ),
        "DOGE TA": ("edit=doge merge.scaling=1.0", lambda: doge(base, fine_tuned)),
    }
    print(f"relative error to fusion-bench {version}, {TASKS} tasks")
    for title, (settings, theirs) in rows.items():
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            expected = theirs()
        found = ours(base, fine_tuned, settings)
        error = sum(float((found[n] - t.detach()).double().square().sum()) for n, t in expected.items())
        length = sum(float(t.detach().double().square().sum()) for t in expected.values())
        print(f"{title:<12} {(error / length) ** 0.5:.1e}")


if __name__ == "__main__":
    main()
