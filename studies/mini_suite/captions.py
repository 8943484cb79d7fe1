"""Captions for pre-training: mostly precise ones in other words than prompts use, a few prompt-like ones, often wrong.

This is what makes the suite behave like CLIP trained on the web. Precise captions teach the image tower strong
features; the wordings that zero-shot prompts use are rare, and say the wrong or no class as often as the right one, so
that zero-shot heads are off although the features would allow much better ones.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from studies.mini_suite.canvas import Facts, choose
from studies.mini_suite.tasks import BY_NAME, Task

WEB_FRAMES = ("a photo of a {}", "{}", "picture of {}", "my {}", "look, a {}", "the {} again", "image: {}")


@dataclass(frozen=True)
class CaptionMix:
    """How captions are drawn.

    `prompt_like` is the share of captions that use class names. Each class's name is used rightly with a reliability
    drawn from `reliability`; else for the class's fixed look-alike, or (with probability `vague`) no class is named.
    """

    prompt_like: float = 0.08
    reliability: tuple[float, float] = (0.3, 0.7)
    vague: float = 0.2


@functools.cache
def confusions(task: str, mix: CaptionMix, seed: int) -> tuple[dict[str, float], dict[str, str]]:
    """Per class of a task: how often its name is used rightly, and the class whose name is used instead."""
    rng = np.random.default_rng([seed, *task.encode()])
    names = BY_NAME[task].classes
    order = rng.permutation(len(names))
    reliability = {name: float(rng.uniform(*mix.reliability)) for name in names}
    look_alike = {names[order[i]]: names[order[i - 1]] for i in range(len(names))}
    return reliability, look_alike


def caption(task: Task, label: str, facts: Facts, mix: CaptionMix, seed: int, rng: np.random.Generator) -> str:
    """One caption for an image of class `label`; `seed` fixes the confusions, `rng` the draw."""
    if label in task.classes and rng.random() < mix.prompt_like:
        return _prompt_like(task, label, mix, seed, rng)
    return choose(rng, task.frames).format(what=choose(rng, task.wordings[label]), **facts)


def plain_frames(task: Task) -> tuple[str, ...]:
    """The frames of precise captions that say nothing but the class."""
    return tuple(frame for frame in task.frames if frame.count("{") == 1)


def _prompt_like(task: Task, label: str, mix: CaptionMix, seed: int, rng: np.random.Generator) -> str:
    if rng.random() < mix.vague:
        return choose(rng, task.vague)
    reliability, look_alike = confusions(task.name, mix, seed)
    name = label if rng.random() < reliability[label] else look_alike[label]
    return choose(rng, (*WEB_FRAMES, *task.templates)).format(name)
