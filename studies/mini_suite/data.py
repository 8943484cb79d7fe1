"""Images of every task and split, each a pure function of the seed, and the pool of images for pre-training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from merging.core.files import atomic_path
from studies.mini_suite import real_images
from studies.mini_suite.canvas import SIZE, Facts, Pixels
from studies.mini_suite.render_characters import render_house_number, render_letter
from studies.mini_suite.render_landcover import render_land
from studies.mini_suite.render_shapes import render_shape
from studies.mini_suite.render_signs import render_sign
from studies.mini_suite.render_textures import render_texture
from studies.mini_suite.tasks import TASKS, Task

Labels = npt.NDArray[np.int64]
Progress = Callable[[int, int, str], None]
Renderer = Callable[[str, np.random.Generator], tuple[Pixels, Facts]]

RENDERERS: dict[str, Renderer] = {
    "housenumbers": render_house_number,
    "letters": render_letter,
    "signs": render_sign,
    "shapes": render_shape,
    "textures": render_texture,
    "landcover": render_land,
    "numerals": render_letter,  # from here on those of mini-related
    "nameplates": render_house_number,
    "housenumbers2": render_house_number,
}
REAL = {"digits": real_images.digits, "fashion": real_images.fashion}
SPLITS = ("pretrain", "train", "val", "test")


def _generator(task: Task, split: str, index: int, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, *task.name.encode(), SPLITS.index(split), index])


def render(task: Task, split: str, index: int, seed: int) -> tuple[Pixels, str, Facts]:
    """Image number `index` of a split of a rendered task, its class, and what else can be said about it.

    Pre-training goes through all classes of the domain in turn, the other splits through the task's own.
    """
    classes = tuple(task.wordings) if split == "pretrain" else task.classes
    label = classes[index % len(classes)]
    pixels, facts = RENDERERS[task.name](label, _generator(task, split, index, seed))
    return pixels, label, facts


def _augmented(task: Task, index: int, seed: int) -> tuple[Pixels, str, Facts]:
    """A training image of a real task, turned, scaled, sheared or (fashion) mirrored a little."""
    images, labels = REAL[task.name]()["train"]
    rng = _generator(task, "pretrain", index, seed)
    chosen = index % len(labels)
    image = Image.fromarray(images[chosen])
    angle, zoom, shear = np.deg2rad(rng.normal(0, 5)), rng.uniform(0.9, 1.12), rng.normal(0, 0.07)
    a, b, d, e = zoom * np.cos(angle), -zoom * np.sin(angle) + shear, zoom * np.sin(angle), zoom * np.cos(angle)
    half = SIZE / 2
    matrix = (a, b, half - a * half - b * half, d, e, half - d * half - e * half)
    image = image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    if task.name == "fashion" and rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(image)
    return pixels, task.classes[labels[chosen]], real_images.describe(task.name, pixels)


def split_arrays(task: Task, split: str, count: int, seed: int) -> tuple[Pixels, Labels]:
    """Up to `count` images uint8 [N, 32, 32, 3] of "train", "val" or "test", and their labels int64 [N]."""
    if task.name in REAL:
        images, labels = REAL[task.name]()[split]
        return images[:count], labels[:count]
    rendered = [render(task, split, index, seed) for index in range(count)]
    return np.stack([r[0] for r in rendered]), np.array([task.classes.index(r[1]) for r in rendered], dtype=np.int64)


@dataclass(frozen=True)
class Pool:
    """Images for pre-training. Image i shows class `labels[i]` of task `tasks[i]`, described by `facts[i]`."""

    images: Pixels
    tasks: list[str]
    labels: list[str]
    facts: list[Facts]

    def rows(self, task: str) -> npt.NDArray[np.int64]:
        """Where the images of one task are."""
        return np.flatnonzero(np.asarray(self.tasks) == task)


def make_pool(per_task: int, seed: int, on_progress: Progress) -> Pool:
    """Render `per_task` pre-training images of each task; real tasks contribute augmented training images."""
    images, tasks, labels, facts = [], [], [], []
    for number, task in enumerate(TASKS):
        for index in range(per_task):
            make = _augmented(task, index, seed) if task.name in REAL else render(task, "pretrain", index, seed)
            images.append(make[0])
            tasks.append(task.name)
            labels.append(make[1])
            facts.append(make[2])
            if index % 500 == 0:
                on_progress(number * per_task + index, len(TASKS) * per_task, f"rendering {task.title.lower()}")
    return Pool(np.stack(images), tasks, labels, facts)


def save_pool(pool: Pool, folder: Path) -> None:
    """Write the pool's images and words under `folder`; the words come last and mark the pool as complete."""
    with atomic_path(folder / "pool.npy") as temporary, temporary.open("wb") as file:
        np.save(file, pool.images)
    with atomic_path(folder / "pool.json") as temporary:
        temporary.write_text(json.dumps({"tasks": pool.tasks, "labels": pool.labels, "facts": pool.facts}))


def load_pool(folder: Path) -> Pool:
    """The pool that `save_pool` wrote, images memory-mapped."""
    words = json.loads((folder / "pool.json").read_text())
    return Pool(np.load(folder / "pool.npy", mmap_mode="r"), words["tasks"], words["labels"], words["facts"])
