"""The suites of published checkpoints: complete, consistent, and without any of their files."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from merging.core.errors import MissingPart, SuiteError
from merging.evaluation import clip
from merging.hub.cache import HubFile
from merging.suites import builtin_suites, load_suite
from merging.suites.images.suite_images import load_images
from merging.suites.known_datasets import known_datasets
from merging.suites.reported import reported_tables
from merging.suites.suite import HuggingFaceData
from tests.fake_hub import FakeHub
from tests.random_models import write_yaml
from tests.suites.images.test_kinds import write_parquet

TASKS = ("SUN397", "Cars", "RESISC45", "EuroSAT", "SVHN", "GTSRB", "MNIST", "DTD")
SIZES = {
    **{"SUN397": 397, "Cars": 196, "RESISC45": 45, "EuroSAT": 10, "SVHN": 10, "GTSRB": 43, "MNIST": 10, "DTD": 47},
    **{"Flowers102": 102, "PCAM": 2, "FER2013": 7, "OxfordIIITPet": 37, "STL10": 10, "CIFAR100": 100, "CIFAR10": 10},
    **{"Food101": 101, "FashionMNIST": 10, "EMNISTLetters": 26, "KMNIST": 10, "RenderedSST2": 2},
}
HUB = {"ViT-B-32": "clip-vit-base-patch32", "ViT-B-16": "clip-vit-base-patch16", "ViT-L-14": "clip-vit-large-patch14"}
ADAPTERS = {"lora": "adapter_model.safetensors", "l-lora": "linearized_adapter_model.safetensors"}
READY = {
    **{
        f"{family}-{name}": (family, name)
        for family, name in itertools.product(("fusion_bench", "task_arithmetic"), HUB)
    },
    **{f"fusion_bench-ViT-B-16-{kind}": (f"fusion_bench_{kind.replace('-', '_')}", "ViT-B-16") for kind in ADAPTERS},
}


def test_every_architecture_is_there_in_both_families() -> None:
    assert sorted({*builtin_suites()} - {"mini", "mini-related"}) == sorted(READY)


@pytest.mark.parametrize("name", READY)
def test_a_ready_suite_has_the_tasks_of_papers(name: str, hub: FakeHub) -> None:
    suite = load_suite(name)
    family, architecture = READY[name]
    assert suite.name == name and suite.usual_tasks == suite.chosen() == TASKS == tuple(reported_tables().tasks)
    many = family == "fusion_bench"
    assert suite.task_names == (tuple(SIZES) if many else TASKS)
    if many:
        assert {name: len(suite.chosen([f"group:{name}"])) for name in suite.groups} == {"8": 8, "14": 14, "20": 20}
        assert suite.chosen(["group:14"])[8:] == tuple(SIZES)[8:14]
        assert suite.chosen(["kind:characters", "MNIST"]) == ("SVHN", "MNIST", "EMNISTLetters", "KMNIST")
    assert suite.checkpoints == family and suite.architecture == f"{architecture}-quickgelu"
    assert clip.config(suite)["quick_gelu"] is True and clip.input_of(suite).size == 224
    assert clip.input_of(suite).mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))  # OpenAI's
    assert suite.mergeable() == () and suite.logit_scale == 100
    for task in suite.tasks:
        assert len(task.classes) == SIZES[task.name] and task.title and task.source and task.licence
        assert isinstance(task.data, HuggingFaceData) and task.data.dataset
        assert suite.measurable(task.name) and not suite.present(task.name)
    assert hub.asked == []


@pytest.mark.parametrize("architecture", HUB)
def test_hub_ids_follow_the_published_pattern(architecture: str) -> None:
    suite = load_suite(f"fusion_bench-{architecture}")
    assert suite.base == suite.text_tower == HubFile(hub=f"openai/{HUB[architecture]}")
    endings = ("sun397", "stanford-cars", "resisc45", "eurosat", "svhn", "gtsrb", "mnist", "dtd")
    further = ("oxford_flowers102", "pcam", "fer2013", "oxford-iiit-pet", "stl10", "cifar100", "cifar10", "food101")
    last = ("fashion_mnist", "emnist_letters", "kmnist", "rendered-sst2")
    assert [task.checkpoint for task in suite.tasks] == [
        HubFile(hub=f"tanganke/{HUB[architecture]}_{ending}") for ending in (*endings, *further, *last)
    ]
    for kind, file in ADAPTERS.items() if architecture == "ViT-B-16" else ():
        adapted = load_suite(f"fusion_bench-{architecture}-{kind}")
        assert adapted.base == adapted.text_tower == suite.base
        assert [task.checkpoint for task in adapted.tasks] == [
            HubFile(hub=f"tanganke/{HUB[architecture]}_{ending}_{kind}-16", file=file) for ending in endings
        ]


@pytest.mark.parametrize("name", SIZES)
def test_class_names_are_as_many_as_the_data_set_has_and_all_different(name: str) -> None:
    known = known_datasets()[name]
    assert len(known["classes"]) == len(set(known["classes"])) == SIZES[name]
    assert all(isinstance(each, str) and each == each.strip() for each in known["classes"])
    assert all(template.count("{}") == 1 for template in known["templates"])
    assert known["licence"] and known["source"]


def test_class_names_are_in_the_order_of_the_labels() -> None:
    """Of what is known of each data set's order: sorted folders, sorted makes, numbers."""
    names = {name: known["classes"] for name, known in known_datasets().items()}
    for folders in ("SUN397", "RESISC45", "DTD"):
        assert names[folders] == sorted(names[folders])
    makes = [name.split()[0] for name in names["Cars"]]
    assert makes == sorted(makes) and names["Cars"][0] == "AM General Hummer SUV 2000"
    assert names["Cars"][195] == "smart fortwo Convertible 2012"
    assert names["MNIST"] == names["SVHN"] == [str(digit) for digit in range(10)]
    folders = ("AnnualCrop", "Forest", "Herbaceous", "Highway", "Industrial", "Pasture", "Permanent", "Resid", "River")
    words = ("annual crop", "forest", "brushland", "highway", "industrial", "pasture", "permanent", "resid", "river")
    assert sorted(folders) == list(folders)
    assert all(name.startswith(word) for name, word in zip(names["EuroSAT"], words, strict=False))
    speeds = {0: "20", 1: "30", 2: "50", 3: "60", 4: "70", 5: "80", 7: "100", 8: "120"}
    assert all(f"{speed} kph" in names["GTSRB"][label] for label, speed in speeds.items())
    assert names["GTSRB"][14] == "stop" and "traffic circle" in names["GTSRB"][40]
    for in_order in ("OxfordIIITPet", "CIFAR10", "CIFAR100", "STL10", "FER2013", "EMNISTLetters", "RenderedSST2"):
        assert names[in_order] == sorted(names[in_order])


def test_a_task_takes_over_what_it_does_not_state(tmp_path: Path) -> None:
    tasks = [
        {"dataset": "MNIST"},
        {"dataset": "DTD", "name": "textures", "title": "Mine", "data": {"kind": "imagefolder", "path": "dtd"}},
        {"dataset": "SVHN", "classes": ["zero", "one"]},
    ]
    suite = load_suite(write_yaml(tmp_path, tasks=tasks))
    assert suite.task_names == ("MNIST", "textures", "SVHN")
    assert suite.task("MNIST").templates == ('a photo of the number: "{}".',)
    textures = suite.task("textures")
    assert textures.title == "Mine" and textures.data is not None and textures.data.kind == "imagefolder"
    assert len(textures.classes) == 47
    assert suite.task("SVHN").classes == ("zero", "one") and suite.task("SVHN").title == "SVHN"


@pytest.mark.parametrize("name", ["nonsense", "mnist", 5, ["MNIST"]])
def test_an_unknown_data_set_is_refused(tmp_path: Path, name: object) -> None:
    with pytest.raises(SuiteError, match=r"expected one of CIFAR10, CIFAR100, Cars, DTD"):
        load_suite(write_yaml(tmp_path, tasks=[{"dataset": name}]))


def test_all_missing_files_are_listed_by_their_places(hub: FakeHub) -> None:
    with pytest.raises(MissingPart) as caught:
        load_suite("fusion_bench-ViT-B-16").vectors(["MNIST", "DTD"])
    said = str(caught.value)
    assert "3 files are missing" in said and "merging download fusion_bench-ViT-B-16" in said
    for repository in ("openai--clip-vit-base-patch16", "tanganke--clip-vit-base-patch16_mnist"):
        assert f"models--{repository}/snapshots/main/model.safetensors" in said
    with pytest.raises(MissingPart, match=r"zeroshot\.safetensors, SUN397/finetuned\.safetensors, .*DTD/finetuned"):
        load_suite("task_arithmetic-ViT-B-32").vectors()
    assert hub.asked == []


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (["a", "b"], "2 class names in the file, 3 in suite.yaml"),
        (["cat", "bird", "dog"], "the class names of the file in another order"),
        (["Cat", "D-o-g", "bird"], None),
        (["1", "2", "3"], None),
    ],
)
def test_labels_of_a_data_set_are_compared_with_the_class_names(
    tmp_path: Path, stated: list[str], message: str | None
) -> None:
    images = np.zeros((3, 8, 8, 3), np.uint8)
    write_parquet(tmp_path / "pets" / "test-00000-of-00001.parquet", images, [0, 1, 1], names=stated)
    task = {"name": "pets", "classes": ["cat", "dog", "bird"], "data": {"kind": "huggingface", "path": "pets"}}
    suite = load_suite(write_yaml(tmp_path, tasks=[task]))
    if message is None:
        assert len(load_images(suite, "pets", "test", 8)) == 3
    else:
        with pytest.raises(SuiteError, match=message):
            load_images(suite, "pets", "test", 8)


def test_a_file_of_the_hub_must_have_the_promised_content(hub: FakeHub, tmp_path: Path) -> None:
    place = HubFile(hub="zoo/cats", sha256="0" * 64)
    suite = load_suite(write_yaml(tmp_path, base=place.model_dump(exclude_none=True)))
    path = suite.path(suite.base)
    path.parent.mkdir(parents=True)
    save_file({"conv1.weight": torch.ones(1)}, path)
    with pytest.raises(Exception, match=r"model\.safetensors: its SHA-256 is .*, expected 000000000000"):
        _ = suite.base_checkpoint.fingerprint
