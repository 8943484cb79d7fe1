"""Images of one split before they are brought to a tower's size, and what all kinds of data share in reading them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from merging.suites.images.decoding import Picture

_HELD_OUT_SHARE, _HELD_OUT_MOST, _HELD_OUT_SEED = 10, 5000, 0


@dataclass(frozen=True)
class ClassOrigins:
    """Where the images of a split come from, class by class.

    Attributes:
        folders: of each class folder its name and the index of its class; none where labels stand in a file.
        how: how that was found, as a sentence's end.
        said: what else there is to say of the files, as sentences.
        odd: what is hardly meant, as sentences.
        assumed: what the order of the classes is taken from where no name says it, as a sentence.
        unread: which images can't be read and are left out, on request, as a sentence.
    """

    folders: tuple[tuple[str, int], ...] = ()
    how: str = ""
    said: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()
    assumed: str = ""
    unread: str = ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What goes along with every number that is made of these images; what is left out is counted there, too."""
        return (*filter(None, [self.assumed]), *self.odd)


@dataclass(frozen=True)
class Source:
    """Images of one split, not yet decoded.

    Attributes:
        name: what errors call it.
        labels: int64 ``[N]``.
        fingerprint: changes when the images do.
        read: ascending indices, size → those images, one after the other.
        pixels: uint8 ``[N, H, W, 3]``, where they lie decoded in memory.
        classes: names of the classes in the order of the labels, where the files state them.
        origin: where they come from.
        folder_of: index into the origin's folders, int64 ``[N]``, where there are folders.
    """

    name: str
    labels: np.ndarray
    fingerprint: str
    read: Callable[[Sequence[int], int], Iterator[Picture]]
    pixels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    origin: ClassOrigins = field(default_factory=ClassOrigins)
    folder_of: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: np.ndarray) -> "Source":
        """Only some of the images, by ascending indices."""
        return replace(
            self,
            labels=self.labels[indices],
            fingerprint=f"{self.fingerprint} {indices.tolist()}",
            read=lambda rows, size: self.read(indices[list(rows)].tolist(), size),
            pixels=None if self.pixels is None else self.pixels[indices],
            folder_of=None if self.folder_of is None else self.folder_of[indices],
        )


def held_out(count: int) -> np.ndarray:
    """Which of ``count`` training images serve for validation where data has no validation split.

    Returns:
        Sorted indices of a tenth of them, at least one and at most 5000: those that the code of Task Arithmetic
        (arXiv 2212.04089, ``split_train_into_train_val``) holds out with its seed 0, so that a model trained by it on
        images in the same order has not seen them. Any other model most likely has.
    """
    wanted = min(max(count // _HELD_OUT_SHARE, 1), _HELD_OUT_MOST)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(_HELD_OUT_SEED))
    return np.sort(order[count - wanted :].numpy())
