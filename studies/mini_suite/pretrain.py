"""Contrastive pre-training of both towers on image–caption pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from open_clip.model import CLIP
from torch import Tensor, nn
from torch.nn import functional

from merging.core.files import atomic_path
from studies.mini_suite.captions import CaptionMix, caption, plain_frames
from studies.mini_suite.data import Pool, Progress
from studies.mini_suite.model import fast, new_model, shifted, to_input, tokenizer
from studies.mini_suite.tasks import BY_NAME, TASKS

CAPTIONS_PER_IMAGE = 4
# Images a task in every batch: more of what is slow to learn.
BATCH = {
    "digits": 16,
    "fashion": 32,
    "housenumbers": 40,
    "landcover": 24,
    "letters": 40,
    "shapes": 40,
    "signs": 32,
    "textures": 32,
}
MAX_LOGIT_SCALE = math.log(100)


@dataclass(frozen=True)
class PretrainingPlan:
    """Settings of pre-training. The learning rate rises, stays, and falls to 0 over the last `decay` share of steps.

    From step `tags_from` on, pictures are also told apart by a plain caption of every class there is (`tag_loss`).
    """

    steps: int = 4200
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warmup: int = 250
    decay: float = 0.35
    tags_from: int = 1500
    save_every: int = 100


def caption_tokens(pool: Pool, mix: CaptionMix, seed: int) -> Tensor:
    """Several captions for every image of the pool, as tokens int32 [N, CAPTIONS_PER_IMAGE, context]."""
    rng = np.random.default_rng([seed, 7])
    texts = [
        caption(BY_NAME[task], label, facts, mix, seed, rng)
        for task, label, facts in zip(pool.tasks, pool.labels, pool.facts, strict=True)
        for _ in range(CAPTIONS_PER_IMAGE)
    ]
    distinct, position = np.unique(np.asarray(texts), return_inverse=True)
    tokens = tokenizer()(distinct.tolist()).int()
    chosen: Tensor = tokens[torch.from_numpy(position)]
    return chosen.view(len(pool.tasks), CAPTIONS_PER_IMAGE, -1)


def _trapezoid(step: int, plan: PretrainingPlan) -> float:
    falling = (plan.steps - step) / max(1.0, plan.decay * plan.steps)
    return min(1.0, (step + 1) / plan.warmup, falling)


def contrastive_loss(model: CLIP, image_features: Tensor, tokens: Tensor) -> Tensor:
    """CLIP's symmetric loss; pairs whose captions are the same text count as matches of each other."""
    text_features = model.encode_text(tokens, normalize=True).float()
    logits = model.logit_scale.exp() * image_features @ text_features.T
    same = (tokens[:, None] == tokens[None]).all(-1).float()
    target = same / same.sum(1, keepdim=True)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def tag_tokens() -> tuple[Tensor, dict[tuple[str, str], int]]:
    """Plain precise captions of every class of every task, int64 [classes, 4, context], and each class's row."""
    rows: dict[tuple[str, str], int] = {}
    texts = []
    for task in TASKS:
        frames = plain_frames(task)
        for label, wordings in task.wordings.items():
            rows[task.name, label] = len(rows)
            texts += [frames[i % len(frames)].format(what=wordings[i // 2]) for i in range(4)]
    return tokenizer()(texts).view(len(rows), 4, -1), rows


def tag_loss(model: CLIP, image_features: Tensor, tags: Tensor, classes: Tensor) -> Tensor:
    """Cross entropy of telling each picture's class by one plain caption [classes, context] of every class.

    Like the contrastive loss, but with every class as a negative and none of them a false one.
    """
    text_features = model.encode_text(tags, normalize=True).float()
    return functional.cross_entropy(model.logit_scale.exp() * image_features @ text_features.T, classes)


def _optimizer(model: CLIP, plan: PretrainingPlan) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim > 1 and p is not model.token_embedding.weight]
    others = [p for p in model.parameters() if p.ndim <= 1 or p is model.token_embedding.weight]
    groups = [{"params": matrices, "weight_decay": plan.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.98), fused=True)


@torch.no_grad()
def _forget_unseen_tokens(model: CLIP, tokens: Tensor) -> None:
    """Set the embeddings of tokens that no caption used from their random start to zero: they compress to nothing."""
    unseen = torch.ones(len(model.token_embedding.weight), dtype=torch.bool, device=tokens.device)
    unseen[tokens.unique().long()] = False
    model.token_embedding.weight[unseen] = 0.0


def _restore(model: CLIP, optimizer: torch.optim.Optimizer, checkpoint: Path) -> int:
    """Load a checkpoint if there is one; returns the number of steps done."""
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def pretrain(
    pool: Pool,
    mix: CaptionMix,
    plan: PretrainingPlan,
    seed: int,
    checkpoint: Path,
    device: torch.device,
    on_progress: Progress,
) -> CLIP:
    """A CLIP on the CPU, trained on the pool; goes on from `checkpoint` if it exists, and saves there regularly."""
    torch.manual_seed(seed)
    model = new_model().to(device)
    tokens = caption_tokens(pool, mix, seed).to(device)
    tags, tag_rows = tag_tokens()
    tags = tags.to(device)
    classes = torch.tensor([tag_rows[pair] for pair in zip(pool.tasks, pool.labels, strict=True)]).to(device)
    rows = {task: pool.rows(task) for task in BATCH}
    optimizer = _optimizer(model, plan)
    start = _restore(model, optimizer, checkpoint)
    model.train()
    average = 0.0
    for step in range(start, plan.steps):
        rng = np.random.default_rng([seed, 11, step])  # by step, so that a resumed run sees the same batches
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        batch = np.concatenate([rng.choice(rows[task], count) for task, count in BATCH.items()])
        chosen = torch.from_numpy(batch).to(device)
        texts = tokens[chosen, torch.from_numpy(rng.integers(CAPTIONS_PER_IMAGE, size=len(batch))).to(device)]
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * _trapezoid(step, plan)
        with fast(device):
            images = shifted(to_input(pool.images[batch]).to(device), generator)
            image_features = model.encode_image(images, normalize=True).float()
            loss = contrastive_loss(model, image_features, texts.long())
            if step >= plan.tags_from:
                wording = torch.from_numpy(rng.integers(4, size=len(tags))).to(device)
                shown = tags[torch.arange(len(tags), device=device), wording]
                loss = loss + tag_loss(model, image_features, shown, classes[chosen])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        average = loss.item() if step == start else 0.98 * average + 0.02 * loss.item()
        done = step + 1
        on_progress(done, plan.steps, f"pre-training, loss {average:.2f}")
        if done % plan.save_every == 0 or done == plan.steps:
            with atomic_path(checkpoint) as temporary:
                torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": done}, temporary)
    _forget_unseen_tokens(model, torch.cat([tokens.flatten(), tags.flatten()]))
    return model.cpu()
