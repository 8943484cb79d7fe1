"""TorchScript archives, as OpenAI's original CLIP files are: tensors come out, the code in them stays unread."""

import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from merging.core.errors import CheckpointError, UnsafeCheckpoint
from merging.weights.convert import convert
from merging.weights.files import open_checkpoint
from merging.weights.files.pickled_modules import open_pickled_module
from tests.lightly import open_clip
from tests.random_models import ARCHITECTURE, random_tower

TOWER = random_tower(5)
pytestmark = pytest.mark.filterwarnings("ignore")  # torch finds its own TorchScript outdated


class Whole(torch.nn.Module):
    """A CLIP as far as its files matter: a visual tower, and other things beside."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.visual = open_clip.CLIP(**ARCHITECTURE, text_cfg={"width": 8, "heads": 1, "layers": 1}).visual
        self.visual.load_state_dict(TOWER)
        self.visual.to(dtype)
        self.logit_scale = torch.nn.Parameter(torch.tensor(4.6))
        self.token_embedding = torch.nn.Embedding(3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.visual(images) * self.logit_scale
        return features + self.token_embedding.weight.sum()


@pytest.fixture(params=[torch.float32, torch.float16])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What ``torch.jit.save`` writes of a traced model."""
    with torch.no_grad():
        traced = torch.jit.trace(Whole(request.param).eval(), torch.zeros(1, 3, 32, 32, dtype=request.param))
    torch.jit.save(traced, str(tmp_path / "ViT-B-32.pt"))
    return tmp_path / "ViT-B-32.pt"


def test_the_tower_comes_out(archive: Path, tmp_path: Path) -> None:
    row = convert(archive, tmp_path / "out.safetensors")
    assert row.kind == "model" and row.held.startswith("__torch__.") and row.held.endswith("Whole")
    assert row.left_out == ("logit_scale", "token_embedding.weight")
    written = load_file(tmp_path / "out.safetensors")
    stored = torch.jit.load(str(archive)).state_dict()
    assert written.keys() == TOWER.keys()
    for name, tensor in written.items():
        assert tensor.dtype == stored[f"visual.{name}"].dtype and torch.equal(tensor, stored[f"visual.{name}"])


def test_code_in_it_may_be_anything(archive: Path, tmp_path: Path) -> None:
    """Whatever its code says is not looked at, compressed as it is."""
    changed = tmp_path / "changed.pt"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(changed, "w") as target:
        for member in source.infolist():
            code = "/code/" in member.filename
            content = b"import os; os.abort()\n" * 100_000 if code else source.read(member)
            target.writestr(member.filename, content, zipfile.ZIP_DEFLATED if code else zipfile.ZIP_STORED)
    found = open_pickled_module(changed).tensors
    assert torch.equal(found["proj"], open_pickled_module(archive).tensors["proj"])


def test_compressed_weights_are_refused_as_in_other_archives(archive: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.pt"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(changed, "w") as target:
        for member in source.infolist():
            target.writestr(member.filename, b"\0" * len(source.read(member)) * 4, zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsafeCheckpoint, match=r"unpacks to|compressed"):
        open_pickled_module(changed)


def test_as_a_weight_file_it_is_refused_with_what_to_do(archive: Path) -> None:
    with pytest.raises(
        UnsafeCheckpoint, match=r"ViT-B-32\.pt: a TorchScript archive, as OpenAI's .* `merging convert`"
    ):
        open_checkpoint(archive)


def test_a_truncated_archive_is_an_error(archive: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pt"
    cut.write_bytes(archive.read_bytes()[:-5000])
    with pytest.raises(CheckpointError):
        open_pickled_module(cut)
