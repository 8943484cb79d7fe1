"""Specifications carried out from files to result, on the tiny suite."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from merging.core.errors import (
    Cancelled,
    DeviceError,
    MergingError,
    MismatchedCheckpoint,
    MissingPart,
    SpecError,
    SuiteError,
)
from merging.evaluation.evaluator import Evaluator
from merging.methods import plan, registry
from merging.methods.context import Context
from merging.methods.edits.awd import AwdParams, disentangle
from merging.methods.refusals import refusal
from merging.runs.export.weights import write_rebuilt
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.baselines import BaselinesJob, BaselinesResult
from merging.runs.jobs.disentangle import DisentangleJob, DisentangleResult
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.jobs.model_job import Contents
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from merging.weights import geometry, resident
from merging.weights.files import open_checkpoint
from merging.weights.geometry import measure
from merging.weights.localised import task_weights
from merging.weights.vectors import TaskVectors
from tests.carrying import execute
from tests.random_models import TASKS, write_arrays

QUICK: dict[str, dict[str, object]] = {
    "awd": {"steps": 10},
    "adamerging": {"steps": 2, "batch_size": 4},
    "task_arithmetic": {"scaling": 0.2},
    "doge": {"steps": 3},
    "wudi": {"steps": 3},
    "fisher": {"images": 2},
    "regmean": {"images": 2},
    "regmean_plus_plus": {"images": 2},
}
PAIRS = [
    (edit, merge)
    for edit, merge in itertools.product(registry.edits(), registry.merges())
    if not refusal(edit, QUICK.get(edit, {}), merge) and not registry.find("merge", merge).localised
]
LOCALISED_PAIRS = [
    (edit, merge)
    for edit, merge in itertools.product(registry.edits(), registry.merges())
    if not refusal(edit, QUICK.get(edit, {}), merge) and registry.find("merge", merge).localised
]
LINEAR = list(itertools.product(("none", "awd", "larv"), ("average", "task_arithmetic", "adamerging")))


def plain(edit: str, merge: str) -> bool:
    """Whether a stage stands here beside one that is plain."""
    return edit == "none" or merge == "task_arithmetic"


def spec_of(suite_file: Path, edit: str = "none", merge: str = "task_arithmetic", **values: object) -> MergeSpec:
    methods = {
        "edit": edit,
        "edit_params": QUICK.get(edit, {}),
        "merge": merge,
        "merge_params": QUICK.get(merge, {}),
    }
    return MergeSpec.build(suite=str(suite_file), **({"tasks": TASKS, "device": "cpu"} | methods | values))


def lasting(result: MergeResult) -> MergeResult:
    """What must be the same when a run is repeated: all but times, memory and the file."""
    return result.model_copy(update={"seconds": {}, "peak_bytes": None, "output": None})


@pytest.fixture(scope="module")
def measuring(suite: Suite) -> Evaluator:
    """An evaluator for all tests here, whose tower is built once."""
    return Evaluator(suite)


@pytest.mark.parametrize(("edit", "merge"), [pair for pair in PAIRS if pair in LINEAR or plain(*pair)])
def test_a_run_of_each_stage(
    suite_file: Path,
    suite: Suite,
    workspace: Workspace,
    measuring: Evaluator,
    tmp_path: Path,
    edit: str,
    merge: str,
) -> None:
    """Each beside a plain partner twice, with accuracy; pairs that are a table of coefficients once."""
    spec = spec_of(suite_file, edit, merge, evaluate=plain(edit, merge))
    first = execute(spec, workspace, output=tmp_path / "one.safetensors")
    assert MergeResult.read(json.dumps(first.stored(), allow_nan=False)) == first

    written = open_checkpoint(tmp_path / "one.safetensors")
    assert written.infos == suite.base_checkpoint.infos
    assert (first.after is None) == (edit == "none")
    assert first.label == spec.label
    assert (first.coefficients is not None) == ((edit, merge) in LINEAR)
    if first.coefficients is not None:
        assert np.shape(first.coefficients.table) == (len(TASKS), len(first.coefficients.tensors))
        write_rebuilt(first, spec, suite.vectors(TASKS), tmp_path / "three.safetensors")
        rebuilt = open_checkpoint(tmp_path / "three.safetensors")
        assert all(torch.equal(rebuilt[name], written[name]) for name in written)
    if plain(edit, merge):
        again = execute(spec, workspace, output=tmp_path / "two.safetensors")
        assert lasting(first) == lasting(again)
        assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
        measured = measuring.accuracy(written, TASKS)
        assert first.accuracy == measured.per_task
        assert first.average == measured.average
        assert (first.split, first.images) == ("test", 96)


@pytest.fixture(scope="module")
def models(suite: Suite) -> tuple[TaskVectors, geometry.Geometry]:
    """Task vectors for all tests here, and how they lie."""
    vectors = suite.vectors(TASKS)
    return vectors, measure(vectors)


@pytest.mark.parametrize(("edit", "merge"), [pair for pair in PAIRS if pair not in LINEAR and not plain(*pair)])
def test_all_other_pairs_give_a_model(
    models: tuple[TaskVectors, geometry.Geometry], measuring: Evaluator, edit: str, merge: str
) -> None:
    """Without what is a run's and not the pair's."""
    vectors, before = models
    context = Context(evaluator=measuring)
    planned = plan.plan(vectors, spec_of(Path("any"), edit, merge).pair, context)
    merged = dict(planned.tensors(context))
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in merged.items()} == {
        name: (info.shape, info.dtype) for name, info in vectors.base.infos.items()
    }
    assert all(bool(tensor.isfinite().all()) for tensor in merged.values())
    assert planned.table is None and planned.edited_geometry(before) is not None


@pytest.mark.parametrize(("edit", "merge"), LOCALISED_PAIRS)
def test_every_pair_that_gives_a_model_for_each_task(
    suite_file: Path, suite: Suite, workspace: Workspace, measuring: Evaluator, tmp_path: Path, edit: str, merge: str
) -> None:
    plain = edit == "none"
    spec = spec_of(suite_file, edit, merge, evaluate=plain)
    first = execute(spec, workspace, output=tmp_path / "one.safetensors")
    assert MergeResult.read(json.dumps(first.stored(), allow_nan=False)) == first
    assert first.coefficients is None and (first.after is None) == (edit == "none")
    assert len(first.merge.active) == len(first.merge.thresholds or first.merge.scales) == len(TASKS)
    assert (tmp_path / "one.safetensors").stat().st_size * 8 > (first.merge.storage.vector + first.merge.storage.masks)
    models = {task: task_weights(suite.base_checkpoint, tmp_path / "one.safetensors", task) for task in TASKS}
    assert all(model.keys() == suite.base_checkpoint.keys() for model in models.values())
    if plain:
        assert lasting(first) == lasting(execute(spec, workspace))
        for task, rebuilt in models.items():
            assert first.accuracy[task] == measuring.accuracy(rebuilt, [task]).average
        assert workspace.file_accuracy(measuring, tmp_path / "one.safetensors", TASKS).per_task == first.accuracy
        assert first.average == pytest.approx(sum(first.accuracy.values()) / len(TASKS))
        assert (first.split, first.images, first.counts) == ("test", 96, dict.fromkeys(TASKS, 24))


@pytest.mark.parametrize("edit", ["awd", "ties"])
def test_the_geometry_reported_is_that_of_the_edited_vectors(
    suite_file: Path, suite: Suite, workspace: Workspace, edit: str
) -> None:
    result = execute(spec_of(suite_file, edit, evaluate=False), workspace)
    method = registry.find("edit", edit)
    vectors = suite.vectors(TASKS)
    edited = measure(vectors.edited(method.plan(vectors, method.parse(QUICK.get(edit, {})), Context())))
    np.testing.assert_allclose(result.after.norms, edited.norms, rtol=1e-4)


def test_weights_are_written_or_kept_where_asked(suite_file: Path, workspace: Workspace, tmp_path: Path) -> None:
    kept = tmp_path / "kept.safetensors"
    linear = execute(spec_of(suite_file), workspace, keep=kept)
    assert linear.output is None
    assert not kept.exists()
    other = execute(spec_of(suite_file, "ties"), workspace, keep=kept)
    assert other.output == "kept.safetensors"
    assert kept.is_file()
    without = execute(spec_of(suite_file, "ties"), workspace)
    assert without.accuracy == other.accuracy


def test_without_evaluation_or_images_there_is_no_accuracy(
    suite_file: Path, own_suite: Path, workspace: Workspace
) -> None:
    result = execute(spec_of(suite_file, evaluate=False), workspace)
    assert (result.accuracy, result.average, result.images) == (None, None, None)
    content = (own_suite / "suite.yaml").read_text().replace("head: digits.head.safetensors", "")
    (own_suite / "suite.yaml").write_text(content)
    assert execute(spec_of(own_suite), workspace).accuracy is None
    assert execute(spec_of(own_suite, tasks=("roads",)), workspace).images == 24
    with pytest.raises(MissingPart, match="AdaMerging needs images"):
        execute(spec_of(own_suite, merge="adamerging"), workspace)


def test_scaling_auto_says_what_it_took(suite_file: Path, workspace: Workspace) -> None:
    result = execute(spec_of(suite_file, merge_params={"scaling": "auto"}), workspace)
    table = np.array(result.coefficients.table)
    assert (table == result.merge.scaling).all()
    assert result.merge.scaling_search.split == "val"


@pytest.mark.parametrize(
    ("edit", "merge"),
    [("none", "task_arithmetic"), ("ties", "average"), ("none", "adamerging"), ("none", "tall_masks")],
)
@pytest.mark.parametrize("after", [0, 1, 3, 12])
def test_cancelling_leaves_nothing_behind(
    suite_file: Path, workspace: Workspace, tmp_path: Path, edit: str, merge: str, after: int
) -> None:
    asked = itertools.count()
    folder = tmp_path / "output"
    with pytest.raises(Cancelled):
        execute(
            spec_of(suite_file, edit, merge),
            workspace,
            output=folder / "model.safetensors",
            cancelled=lambda: next(asked) >= after,
        )
    assert not folder.exists() or list(folder.iterdir()) == []


def test_progress_never_runs_backwards_within_a_phase(suite_file: Path, workspace: Workspace) -> None:
    seen: list[tuple[int, int, str]] = []
    execute(spec_of(suite_file, "ties", "adamerging"), workspace, on_progress=lambda *step: seen.append(step))
    assert all(0 <= done <= total for done, total, _ in seen)
    for (done, total, message), (later, of, phase) in itertools.pairwise(seen):
        assert later >= done or message.split()[0] != phase.split()[0] or total != of


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"tasks": ("digits", "nobody")}, SuiteError),
        ({"tasks": ("digits", "digits")}, MergingError),
        ({"device": "cuda:99"}, DeviceError),
        ({"device": "abacus"}, DeviceError),
        ({"merge_params": {"scaling": (0.1, 0.2)}}, MergingError),
        ({"suite": "nowhere"}, SuiteError),
    ],
)
def test_what_cannot_be_done_is_an_error_of_ours(
    suite_file: Path, workspace: Workspace, values: dict[str, object], error: type[Exception]
) -> None:
    spec = spec_of(suite_file).model_dump() | values
    with pytest.raises(error):
        execute(MergeSpec.build(**spec), workspace)


def test_a_table_is_not_replayed_on_other_weights(own_suite: Path, workspace: Workspace, tmp_path: Path) -> None:
    spec = spec_of(own_suite)
    result = execute(spec, workspace)
    (own_suite / "roads.safetensors").write_bytes((own_suite / "digits.safetensors").read_bytes())
    with pytest.raises(MergingError, match="the checkpoints changed since this run"):
        write_rebuilt(result, spec, load_suite(own_suite).vectors(TASKS), tmp_path / "model.safetensors")
    assert not (tmp_path / "model.safetensors").exists()


# --- the workspace ---------------------------------------------------------------------------------------------------


def test_what_changes_the_result_changes_the_identity_of_a_run(own_suite: Path, workspace: Workspace) -> None:
    spec = spec_of(own_suite)
    original = (own_suite / "suite.yaml").read_text()
    prints = [spec.fingerprint(workspace)]
    assert spec.fingerprint(workspace) == prints[0]
    for old, new in (("logit_scale: 20.0", "logit_scale: 30.0"), ("- 0.25\n", "- 0.2\n"), ("- 0.5\n", "- 0.4\n")):
        assert old in original
        (own_suite / "suite.yaml").write_text(original.replace(old, new))
        prints.append(spec.fingerprint(workspace))
    (own_suite / "suite.yaml").write_text(original)
    write_arrays(own_suite / "roads.npz", np.random.default_rng(77), images=25)
    prints.append(spec.fingerprint(workspace))
    (own_suite / "roads.safetensors").write_bytes((own_suite / "digits.safetensors").read_bytes())
    prints.append(spec.fingerprint(workspace))
    assert len(set(prints)) == len(prints)


def test_several_jobs_on_files_that_are_looked_at_once_are_known_as_each_alone(
    own_suite: Path, workspace: Workspace
) -> None:
    specs = [
        spec_of(own_suite),
        spec_of(own_suite, "ties"),
        spec_of(own_suite, tasks=TASKS[2:], unseen=TASKS[:2]),
        BaselinesJob.like(spec_of(own_suite, tasks=TASKS[1:])),
    ]
    alone, files = [spec.fingerprint(workspace) for spec in specs], Contents(workspace)
    assert [spec.fingerprint_on(files) for spec in specs] == alone
    (own_suite / "roads.safetensors").write_bytes((own_suite / "digits.safetensors").read_bytes())
    assert [spec.fingerprint_on(files) for spec in specs] == alone
    assert not {*alone} & {spec.fingerprint_on(Contents(workspace)) for spec in specs}


def test_an_image_replaced_in_its_folder_changes_the_identity_of_a_run(own_suite: Path, workspace: Workspace) -> None:
    described = yaml.safe_load((own_suite / "suite.yaml").read_text())
    described["tasks"][1]["data"] = {"kind": "imagefolder", "path": "images"}
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(described))
    image = own_suite / "images" / "test" / "class 0" / "one.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"one")
    before = spec_of(own_suite).fingerprint(workspace)
    image.write_bytes(b"another")
    assert spec_of(own_suite).fingerprint(workspace) != before


def test_bad_input_is_refused_before_it_is_queued(own_suite: Path, workspace: Workspace) -> None:
    (own_suite / "roads.safetensors").write_bytes(b"broken")
    with pytest.raises(MergingError, match=r"roads\.safetensors"):
        workspace.submit(spec_of(own_suite))
    assert workspace.store.all() == []
    assert workspace.submit(spec_of(own_suite, tasks=("digits",))).state == "queued"


def test_a_broken_file_of_another_task_is_not_in_the_way(own_suite: Path, workspace: Workspace) -> None:
    (own_suite / "roads.safetensors").write_bytes(b"broken")
    result = execute(spec_of(own_suite, "awd", tasks=("digits", "leaves")), workspace)
    assert result.images == 48
    with pytest.raises(MergingError, match=r"roads\.safetensors"):
        workspace.geometry(load_suite(own_suite))


def test_a_model_of_another_shape_is_named(own_suite: Path, workspace: Workspace) -> None:
    (own_suite / "roads.safetensors").write_bytes((own_suite / "roads.head.safetensors").read_bytes())
    with pytest.raises(MismatchedCheckpoint, match=r"roads\.safetensors \(task 'roads'\)"):
        execute(spec_of(own_suite), workspace)


def test_accuracies_are_computed_once(suite: Suite, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = workspace.evaluator(suite)
    base = workspace.base_accuracy(evaluator, TASKS)
    individual = workspace.individual_accuracy(evaluator, TASKS)
    for task in TASKS:
        direct = evaluator.accuracy(suite.checkpoint(task), [task])
        assert individual.per_task[task] == direct.per_task[task]
    fresh = workspace.evaluator(suite)
    monkeypatch.setattr(fresh, "accuracy", lambda *_: pytest.fail("evaluated again"))
    assert workspace.base_accuracy(fresh, TASKS) == base
    assert workspace.individual_accuracy(fresh, TASKS) == individual


def test_baselines_as_a_job(suite_file: Path, suite: Suite, workspace: Workspace, tmp_path: Path) -> None:
    result = execute(BaselinesJob.like(spec_of(suite_file, split="val")), workspace)
    assert BaselinesResult.read(json.dumps(result.stored(), allow_nan=False)) == result
    space = Workspace(tmp_path / "elsewhere")
    evaluator = space.evaluator(suite)
    assert result.zero_shot == space.base_accuracy(evaluator, TASKS, "val").per_task
    assert result.individual == space.individual_accuracy(evaluator, TASKS, "val").per_task
    assert result.split == "val"


def test_baselines_can_be_cancelled(suite_file: Path, workspace: Workspace) -> None:
    with pytest.raises(Cancelled):
        execute(BaselinesJob.like(spec_of(suite_file)), workspace, cancelled=lambda: True)


@pytest.mark.parametrize("params", [{"scope": "row"}, {"solver": "adam", "beta": 1e-4, "steps": 5}])
def test_disentangling_as_a_job(
    suite_file: Path, suite: Suite, workspace: Workspace, params: dict[str, object]
) -> None:
    result = execute(DisentangleJob.like(spec_of(suite_file, "awd", edit_params=params)), workspace)
    before = workspace.geometry(suite, TASKS)
    direct = disentangle(suite.vectors(TASKS), before, AwdParams(**params), Context())
    found = DisentangleResult.read(json.dumps(result.stored(), allow_nan=False)).disentangled(before)
    np.testing.assert_array_equal(found.after.grams, direct.after.grams)
    np.testing.assert_array_equal(found.curve, direct.curve)
    assert found.redundant_norm == direct.redundant_norm
    assert found.multipliers is None


def test_only_awd_disentangles(suite_file: Path) -> None:
    with pytest.raises(SpecError, match="only edit awd disentangles; got edit 'ties'"):
        DisentangleJob.like(spec_of(suite_file, "ties"))


def test_other_jobs_are_no_history(suite_file: Path, workspace: Workspace) -> None:
    merge = workspace.submit(spec_of(suite_file))
    job = workspace.submit(BaselinesJob.like(spec_of(suite_file)))
    assert merge.fingerprint != job.fingerprint
    assert [run.id for run in workspace.store.all()] == [merge.id]
    assert [run.id for run in workspace.store.active()] == [merge.id, job.id]


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> resident.Shelf:
    """Models stay on the device, though that is the CPU; an empty shelf for them."""
    shelf = resident.Shelf()
    monkeypatch.setattr(resident, "worthwhile", lambda device: True)
    for module in (resident, geometry, plan):
        monkeypatch.setattr(module, "shelf", shelf)
    return shelf


@pytest.mark.parametrize("method", [("none", "task_arithmetic"), ("awd", "wudi"), ("ties", "tsv_m")])
def test_models_that_stay_on_the_device_give_the_same_run(
    suite_file: Path,
    workspace: Workspace,
    on_device: resident.Shelf,
    monkeypatch: pytest.MonkeyPatch,
    method: tuple[str, str],
) -> None:
    spec = spec_of(suite_file, *method)
    kept = execute(spec, workspace)
    assert kept.resident is True
    assert kept.warnings == []
    assert on_device.nbytes > 0
    monkeypatch.setattr(resident, "free_memory", lambda device: on_device.nbytes)
    on_device.clear()
    streamed = execute(spec, workspace)
    assert streamed.resident is False
    assert "read tensor by tensor, which is slower and gives the same numbers" in streamed.warnings[0]
    same = {"warnings": [], "resident": None}
    assert lasting(kept.model_copy(update=same)) == lasting(streamed.model_copy(update=same))


def test_a_merge_that_runs_out_of_memory_beside_the_models_is_done_without_them(
    suite_file: Path, workspace: Workspace, on_device: resident.Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = TaskVectors.stored

    def full(vectors: TaskVectors, name: str, device: torch.device | str = "cpu") -> list[torch.Tensor]:
        if vectors.resident is not None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return stored(vectors, name, device)

    monkeypatch.setattr(TaskVectors, "stored", full)
    result = execute(spec_of(suite_file), workspace)
    assert result.resident is False
    assert on_device.nbytes == 0
    assert result.accuracy == execute(spec_of(suite_file), workspace).accuracy


def test_methods_that_learn_on_images_hold_what_they_need_themselves(
    suite_file: Path, workspace: Workspace, on_device: resident.Shelf
) -> None:
    result = execute(spec_of(suite_file, merge="adamerging"), workspace)
    assert result.resident is None
    assert on_device.nbytes == 0
