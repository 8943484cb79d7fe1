"""``python -m benchmarks.agreement``: our numbers beside FusionBench's, on random tensors of a small tower.

Prints the relative error of the methods that both have, ``‖ours − theirs‖ / ‖theirs‖`` over the whole update. Of Fisher
merging and RegMean, whose programs there take models of transformers and their data sets, it is what they do with
Fisher information and Gram matrices, those of this package, on whole small towers. It has no ACE, LARV or AWD; its
AdaMerging, RegMean++ and TATR come only as such programs; DARE draws other random numbers.

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

from merging.evaluation.evaluator import Evaluator
from merging.evaluation.gradients import fisher_information
from merging.evaluation.input_grams import input_grams
from merging.methods import random_suite
from merging.methods.context import Context
from merging.methods.pair import Pair
from merging.methods.plan import plan
from merging.methods.properties import random_state, write_models
from merging.weights.files import open_checkpoint, save_tensors
from merging.weights.files.checkpoint import TensorInfo
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


def average(fine_tuned: list[State]) -> State:
    """The mean of the models."""
    from fusion_bench.method.simple_average import simple_average  # type: ignore[import-not-found]

    found: State = simple_average(fine_tuned)
    return found


def ties(vectors: list[State]) -> State:
    """TIES with its threshold over the whole vector, λ = 0.3."""
    from fusion_bench.method.ties_merging.ties_merging_utils import (  # type: ignore[import-not-found]
        state_dict_to_vector,
        ties_merging,
        vector_to_state_dict,
    )

    flat = torch.vstack([state_dict_to_vector(vector) for vector in vectors])
    found: State = vector_to_state_dict(0.3 * ties_merging(flat, reset_thresh=0.2, merge_func="sum"), vectors[0])
    return found


def tall_masks(base: State, fine_tuned: list[State], vectors: list[State]) -> State:
    """TALL masks with the threshold 0.4: what every task is served with."""
    from fusion_bench.method.tall_mask.utils import generate_task_masks  # type: ignore[import-not-found]

    total = sums(vectors, 1.0)
    found = {}
    for name in base:
        own, tuned = (torch.stack([state[name] for state in states]) for states in (vectors, fine_tuned))
        masks = generate_task_masks(own, tuned, base[name], total[name], 0.4)
        found |= {f"{number}/{name}": mask * total[name] for number, mask in enumerate(masks)}
    return found


def with_images(settings: str, theirs: Callable[[TaskVectors, Context], State]) -> tuple[State, State]:
    """Our update and theirs of a method that looks at images, on small whole towers with random ones."""
    base = random_state(0, random_suite.tower_shapes(), 0.2)
    base = {name: one + 1 if "ln" in name and name.endswith("weight") else one for name, one in base.items()}
    own = [random_state(1 + task, random_suite.tower_shapes(), 0.05) for task in range(TASKS)]
    tuned = [{name: base[name] + one[name] for name in base} for one in own]
    with tempfile.TemporaryDirectory() as folder:
        vectors = write_models(Path(folder), base, tuned)
        context = Context(evaluator=Evaluator(random_suite.complete_suite(Path(folder), vectors.tasks, 0)))
        merged = dict(plan(vectors, Pair.read(settings), context).tensors())
        expected = theirs(vectors, context)
    return ({name: one - base[name] for name, one in state.items()} for state in (merged, expected))  # type: ignore[return-value]


def fisher(vectors: TaskVectors, context: Context, normalised: bool) -> State:
    """The models averaged by their information, with this package's floor."""
    from fusion_bench.method.fisher_merging.fisher_merging import (  # type: ignore[import-not-found]
        merging_with_fisher_weights,
    )

    evaluator = context.need_images("the comparison", vectors.tasks)
    pairs = list(zip(vectors.checkpoints, vectors.tasks, strict=True))
    found = [fisher_information(evaluator, model, task, random_suite.IMAGES, context) for model, task in pairs]
    floors = [1e-6 * sum(float(one.sum()) for one in each.values()) / vectors.size for each in found]
    found = [{name: one + floor for name, one in each.items()} for each, floor in zip(found, floors, strict=True)]
    models = {name: [model[name] for model in vectors.checkpoints] for name in vectors.names}
    even = torch.full((len(vectors.tasks),), 1 / len(vectors.tasks))
    merged: State = merging_with_fisher_weights(models, found, even, normalised, 0.0)
    return merged


def regmean(vectors: TaskVectors, context: Context) -> State:
    """RegMean's weights from the inputs of every layer; its code knows layers by a name that ends with .weight."""
    from fusion_bench.method.regmean.regmean import merging_with_regmean_weights  # type: ignore[import-not-found]

    evaluator = context.need_images("the comparison", vectors.tasks)
    pairs = list(zip(vectors.checkpoints, vectors.tasks, strict=True))
    grams = [input_grams(evaluator, model, task, random_suite.IMAGES, context) for model, task in pairs]
    models = {f"{name}.weight": [model[name] for model in vectors.checkpoints] for name in vectors.names}
    merged = merging_with_regmean_weights(models, grams, 0.95)
    return {name.removesuffix(".weight"): one for name, one in merged.items()}


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
        "Average": ("merge=average", lambda: {name: one - base[name] for name, one in average(fine_tuned).items()}),
        "TIES": ("edit=ties merge.scaling=0.3", lambda: ties(vectors)),
        "TALL masks": ("merge=tall_masks", lambda: tall_masks(base, fine_tuned, vectors)),
        "Iso-C": ("merge=iso_c", lambda: iso_c(vectors)),
        "Iso-CTS": ("merge=iso_cts", lambda: iso_cts(vectors)),
        "TSV-M": ("merge=tsv_m", lambda: tsv_m(vectors)),
        "WUDI": ("merge=wudi merge.units=published", lambda: wudi(vectors)),
        "EMR": ("merge=emr", lambda: emr(vectors)),
        "SVC, sum": ("merge=svc merge.scaling=1.0", lambda: svc(base, fine_tuned, sums(vectors, 0.3), 0.1)),
        "SVC, TSV-M": (
            "merge=tsv_m merge.calibration=1",
            lambda: svc(base, fine_tuned, ours(base, fine_tuned, "merge=tsv_m"), 1.0),
        ),
        "DOGE TA": ("edit=doge edit.units=published merge.scaling=1.0", lambda: doge(base, fine_tuned)),
    }
    print(f"relative error to fusion-bench {version}, {TASKS} tasks")
    for title, (settings, theirs) in rows.items():
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            expected = theirs()
        _print(title, ours(base, fine_tuned, settings), expected)
    few = f"merge.images={random_suite.IMAGES}"
    _print("Fisher", *with_images(f"merge=fisher {few}", lambda v, c: fisher(v, c, normalised=False)))
    normalised = f"merge=fisher merge.normalise=length {few}"
    _print("Fisher, norm.", *with_images(normalised, lambda v, c: fisher(v, c, normalised=True)))
    _print("RegMean", *with_images(f"merge=regmean {few}", regmean))


def _print(title: str, found: State, expected: State) -> None:
    error = sum(float((found[n] - t.detach()).double().square().sum()) for n, t in expected.items())
    length = sum(float(t.detach().double().square().sum()) for t in expected.values())
    print(f"{title:<13} {(error / length) ** 0.5:.1e}")


if __name__ == "__main__":
    main()
