"""Which tensors of a file are the visual tower, and what they are called there.

Everything in this package is named as in open_clip's ``model.visual``: ``conv1.weight``,
``transformer.resblocks.0.attn.in_proj_weight``, ``proj`` and so on. Files often hold the whole CLIP, or the same
tensors under a wrapper's prefix.
"""

from collections.abc import Iterable
from dataclasses import dataclass

_WRAPPERS = ("module.", "model.", "image_encoder.")


@dataclass(frozen=True)
class Layout:
    """How names in a file map to names of the visual tower.

    Attributes:
        title: what the layout is called in reports.
        names: tower name → name in the file.
        dropped: names in the file that belong to no visual tower (text tower, logit scale).
    """

    title: str
    names: dict[str, str]
    dropped: tuple[str, ...]


def recognise(names: Iterable[str]) -> Layout:
    """Find the visual tower among the tensor names of a file.

    >>> recognise(["module.visual.conv1.weight", "module.logit_scale"]).names
    {'conv1.weight': 'module.visual.conv1.weight'}
    """
    stored = sorted(names)
    prefix = ""
    while True:
        wrapper = next((w for w in _WRAPPERS if stored and all(n.startswith(prefix + w) for n in stored)), None)
        if wrapper is None:
            break
        prefix += wrapper
    tower = prefix + "visual."
    if any(name.startswith(tower) for name in stored):
        inside = {name.removeprefix(tower): name for name in stored if name.startswith(tower)}
        return Layout(f"CLIP under {tower!r}", inside, tuple(n for n in stored if not n.startswith(tower)))
    title = f"visual tower under {prefix!r}" if prefix else "visual tower"
    return Layout(title, {name.removeprefix(prefix): name for name in stored}, ())
