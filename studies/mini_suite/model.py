"""The suite's CLIP: its architecture, what goes into it, its zero-shot heads, and its accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from studies.mini_suite.canvas import Pixels
from studies.mini_suite.data import Labels
from studies.mini_suite.tasks import Task

ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {
        "image_size": 32,
        "layers": 4,
        "width": 96,
        "head_width": 32,
        "patch_size": 4,
        "mlp_ratio": 4.0,
    },
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def new_model() -> CLIP:
    """A CLIP of the suite's architecture with random weights, from torch's global seed."""
    return CLIP(**ARCHITECTURE)


@cache
def tokenizer() -> SimpleTokenizer:
    """open_clip's own tokenizer at the suite's context length."""
    return SimpleTokenizer(context_length=ARCHITECTURE["text_cfg"]["context_length"])


def to_input(images: Pixels) -> Tensor:
    """uint8 [N, 32, 32, 3] as float32 [N, 3, 32, 32] in [-1, 1], that is mean 0.5 and deviation 0.5 per channel."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


@contextmanager
def fast(device: torch.device) -> Iterator[None]:
    """bfloat16 and plain attention: on a processor, for 65 tokens, twice as fast as float32 and the fused kernel."""
    with torch.autocast(device.type, dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        yield


def shifted(images: Tensor, generator: torch.Generator, reach: int = 2) -> Tensor:
    """The batch [N, 3, H, W] moved by up to `reach` pixels, the edge repeated: light augmentation."""
    down, right = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()
    padded = functional.pad(images, (reach, reach, reach, reach), mode="replicate")
    return padded[..., down : down + images.shape[-2], right : right + images.shape[-1]]


@torch.no_grad()
def zero_shot_head(model: CLIP, task: Task) -> Tensor:
    """The head [classes, embed_dim] of unit rows: per class the mean of its prompts' unit embeddings, renormalised."""
    model.eval()
    encode = tokenizer()
    prompts = [encode([template.format(name) for template in task.templates]) for name in task.classes]
    means = torch.stack([model.encode_text(tokens, normalize=True).mean(0) for tokens in prompts])
    return functional.normalize(means, dim=-1)


@torch.no_grad()
def features(visual: nn.Module, images: Pixels, batch: int = 256) -> Tensor:
    """Unit image embeddings [N, embed_dim] in float32."""
    visual.eval()
    parts = [visual(to_input(images[start : start + batch])) for start in range(0, len(images), batch)]
    return functional.normalize(torch.cat(parts), dim=-1)


def accuracy(visual: nn.Module, head: Tensor, images: Pixels, labels: Labels) -> float:
    """Share of images whose best class is the right one."""
    predicted = (features(visual, images) @ head.T).argmax(-1)
    return float((predicted == torch.from_numpy(labels)).float().mean())
