"""Where files of the Hugging Face hub are on this machine, or would be. Nothing here asks a server.

The layout is the hub's own: ``models--OWNER--NAME/snapshots/COMMIT/FILE`` leads to ``blobs/DIGEST``, and ``refs/main``
names the newest commit. A file put by hand into ``snapshots/main`` is found too as long as there is no ``refs/main``.
"""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from merging.core.files import ADAPTER_FILES, MODEL_FILES

Kind = Literal["model", "dataset"]
# ASCII as on the hub; with all of Unicode's letters, pydantic takes a twentieth of a second for each of these.
HUB_ID = r"^[A-Za-z0-9_.-]{1,96}/[A-Za-z0-9_.-]{1,96}$"
REVISION = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"  # a branch, a tag or a commit
PARQUET = "refs/convert/parquet"  # where the hub keeps its own conversion of a data set that comes in other files
DATASET_REVISION = rf"{REVISION}|^{PARQUET}$"
# What a repository of one model, or of one adapter, calls it, the safe kind first.
WEIGHTS = (*MODEL_FILES, *ADAPTER_FILES)
INDEXES = tuple(f"{name}.index.json" for name in MODEL_FILES)  # of one in shards
_SHA256 = re.compile(r"[0-9a-f]{64}")


class HubFile(BaseModel):
    """A file of a model repository.

    Attributes:
        hub: the repository, ``owner/name``.
        file: its path there; left out, the first that is there of :data:`WEIGHTS` and :data:`INDEXES`.
        revision: branch, tag or commit.
        sha256: what the file's SHA-256 must be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hub: str = Field(pattern=HUB_ID)
    file: str | None = Field(None, min_length=1, max_length=300)
    revision: str = Field("main", pattern=REVISION)
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")

    @field_validator("file")
    @classmethod
    def _inside(cls, value: str | None) -> str | None:
        if value is not None and not is_inside(value):
            raise ValueError("expected the path of a file in the repository")
        return value

    @property
    def candidates(self) -> tuple[str, ...]:
        """Paths in the repository that may be meant, the best first."""
        return (*WEIGHTS, *INDEXES) if self.file is None else (self.file,)

    def __str__(self) -> str:
        return self.hub if self.file is None else f"{self.hub}/{self.file}"


def is_hub_id(text: str) -> bool:
    """Whether a text can be the id of a repository.

    >>> is_hub_id("openai/clip-vit-base-patch32"), is_hub_id("suites/mine/suite.yaml"), is_hub_id("../mine")
    (True, False, False)
    """
    return bool(re.fullmatch(HUB_ID, text)) and all(part.strip(".") for part in text.split("/"))


def id_in_address(text: str) -> str:
    """The id of the model repository that an address of the hub leads to; empty if it is none.

    >>> id_in_address("https://huggingface.co/openai/clip-vit-base-patch32/tree/main")
    'openai/clip-vit-base-patch32'
    >>> id_in_address("openai/clip-vit-base-patch32"), id_in_address("https://huggingface.co/datasets/tanganke/dtd")
    ('', '')
    """
    found = re.match(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([^/]+/[^/?#]+)", text)
    return found[1] if found and is_hub_id(found[1]) and not found[1].startswith(("datasets/", "spaces/")) else ""


def is_inside(path: str) -> bool:
    """Whether a path in a repository stays in it, as written."""
    parts = PurePosixPath(path).parts
    return bool(parts) and "\\" not in path and "\0" not in path and parts[0] != "/" and ".." not in parts


def cache_folder() -> Path:
    """The hub's cache: ``hub`` in ``HF_HOME``, or what ``HF_HUB_CACHE`` says."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def repository(hub: str, kind: Kind) -> Path:
    """The folder of a repository in the cache, there or not."""
    return cache_folder() / "--".join([f"{kind}s", *hub.split("/")])


def snapshot(hub: str, kind: Kind, revision: str = "main") -> Path:
    """The folder with the files of a revision, there or not."""
    folder = repository(hub, kind)
    try:
        commit = (folder / "refs" / revision).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        commit = revision
    return folder / "snapshots" / (commit if re.fullmatch(REVISION, commit) else revision)


def located(file: HubFile) -> Path:
    """Where a file is in the cache; where it would be if it is not there."""
    folder = snapshot(file.hub, "model", file.revision)
    places = [folder / name for name in file.candidates]
    return next((place for place in places if place.is_file()), places[0])


def promised_sha256(path: Path) -> str | None:
    """The SHA-256 that the hub gave for a file in the cache, under which its content is stored; None for others."""
    try:
        stored = os.readlink(path)
    except (OSError, ValueError):
        return None
    place = Path(stored)
    return place.name if place.parent.name == "blobs" and _SHA256.fullmatch(place.name) else None


def in_cache(path: Path) -> str:
    """A place as a path below the cache, for messages: without the folders of this machine that lead there."""
    return path.relative_to(cache_folder()).as_posix()
