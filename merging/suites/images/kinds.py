"""What a ``suite.yaml`` says of images: where they are, in one of four kinds, and how they become the tower's input."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from merging.core.wording import nearest
from merging.hub.cache import DATASET_REVISION
from merging.suites.images.decoding import Treatment
from merging.suites.images.torchvision_data import READERS


class Entry(BaseModel):
    """A part of ``suite.yaml``: it does not change, and takes no field that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


_Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Preprocess(Entry):
    """Mean and standard deviation per channel, of pixel values in 0 … 1."""

    mean: tuple[_Finite, _Finite, _Finite]
    std: tuple[_Positive, _Positive, _Positive]

    @model_validator(mode="after")
    def _of_shares(self) -> "Preprocess":
        if max(self.mean) > 1 or max(self.std) > 1:
            raise ValueError(
                f"mean {list(self.mean)} and std {list(self.std)} look like those of pixels in 0 … 255; expected those "
                "of pixels in 0 … 1: divide by 255"
            )
        return self


class ArraysData(Entry):
    """Images in an ``.npz`` file."""

    kind: Literal["arrays"]
    path: str

    @property
    def title(self) -> str:
        """What to call it in reports."""
        return self.path


class ImageFiles(Entry):
    """What can be said of images that are files, in folders or in the cells of a table.

    Attributes:
        on_error: whether an image that can't be read is an error, or left out and counted.
        range: the values that stand for black and white in images of more than 8 bits.
    """

    on_error: Literal["refuse", "skip"] = "refuse"
    range: tuple[_Finite, _Finite] | None = None

    @field_validator("range")
    @classmethod
    def _rising(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError("expected two values that rise, those of black and white")
        return value

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without these fields where they say nothing: runs are known by what their suites say."""
        silent = {"on_error": "refuse", "range": None, "revision": "main", "test": "test"}
        return {name: value for name, value in dump(self).items() if name not in silent or value != silent[name]}

    @property
    def treatment(self) -> Treatment:
        """The same for whoever decodes the images."""
        return Treatment(self.on_error, self.range)


class ImageFolderData(ImageFiles):
    """Images in folders ``path/split/class/image``; which folder is which class: see :mod:`class_folders`."""

    kind: Literal["imagefolder"]
    path: str

    @property
    def title(self) -> str:
        """What to call it in reports."""
        return self.path


class HuggingFaceData(ImageFiles):
    """Parquet files as on the Hugging Face hub: below ``path``, or of a data set that is in the hub's cache.

    ``test`` is what the data set calls its test split; ``revision`` is a branch, a tag or a commit, or the hub's own
    conversion, ``refs/convert/parquet``.
    """

    kind: Literal["huggingface"]
    path: str | None = None
    dataset: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{1,96}(/[A-Za-z0-9_.-]{1,96})?$")
    revision: str = Field("main", pattern=DATASET_REVISION)
    config: str | None = None
    image: str = "image"
    label: str = "label"
    test: str = Field("test", pattern=r"^[a-z0-9_]{1,40}$")

    @model_validator(mode="after")
    def _one_place(self) -> "HuggingFaceData":
        if (self.path is None) == (self.dataset is None):
            raise ValueError("needs either `path`, a folder with parquet files, or `dataset`, a hub id")
        if self.path is not None and self.revision != "main":
            raise ValueError("`revision` is of a data set of the hub; leave it out beside `path`")
        return self

    @property
    def title(self) -> str:
        """What to call it in reports."""
        return "/".join(filter(None, (self.path or self.dataset, self.config)))


class TorchvisionData(Entry):
    """A data set that ``torchvision.datasets`` reads; ``root`` is what it calls so."""

    kind: Literal["torchvision"]
    name: str
    root: str

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in READERS:
            raise ValueError(f"expected one of {', '.join(READERS)}{nearest(value, READERS)}")
        return value

    @property
    def title(self) -> str:
        """What to call it in reports."""
        return f"{self.root}, {self.name}"


ImageSource = Annotated[ArraysData | ImageFolderData | HuggingFaceData | TorchvisionData, Field(discriminator="kind")]
