"""Files that are handed in to become a suite: what is taken, what is refused, and what is there after a kill."""

import io
import os
import re
import shutil
import signal
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from merging.core.errors import SuiteError
from merging.core.files import remove_leftovers
from merging.evaluation.clip import settings_of
from merging.suites import Suite, load_suite
from merging.suites.incoming.adopted import adopt, answers_of, base_of
from merging.suites.incoming.arrival import Received
from merging.suites.incoming.staging import Staging
from merging.suites.initialise import init_suite, propose
from tests.random_models import TASKS, write_adapter


class Handed(io.BytesIO):
    """A file as a browser sends it."""

    def __init__(self, name: str, content: bytes) -> None:
        super().__init__(content)
        self.name = name


@dataclass
class Models:
    """Contents of files."""

    files: dict[str, bytes]

    def handed(self, *names: str) -> list[Handed]:
        return [Handed(name, self.files[name.split("/")[-1]]) for name in names]

    def archive(self, *paths: str, extra: Sequence[tuple[str | zipfile.ZipInfo, bytes]] = ()) -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in paths:
                archive.writestr(path, self.files[path.split("/")[-1]])
            for name, content in extra:
                archive.writestr(name, content)
        return packed.getvalue()


@pytest.fixture(scope="module")
def models(suite: Suite) -> Models:
    return Models({path.name: path.read_bytes() for path in suite.folder.iterdir()})


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging.begun(tmp_path / "home")


def picture(colour: int) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(written, "PNG")
    return written.getvalue()


def there(staging: Staging) -> list[str]:
    return list(staging.listing())


def test_loose_files_become_a_suite_in_one_step(models: Models, staging: Staging) -> None:
    names = ["base.safetensors", "open_clip_config.json", "digits.safetensors", "digits.head.safetensors", "digits.npz"]
    assert staging.receive(models.handed(*names)) == Received(files=5, places={name: [name] for name in names})
    assert staging.listing()["digits.npz"] == len(models.files["digits.npz"])
    init_suite(staging.files, name="mine", force=True)
    path = staging.finish("mine")
    assert path == staging.home / "suites" / "mine" / "suite.yaml" and not staging.place.exists()
    suite = load_suite(path)
    assert suite.name == "mine" and suite.measurable("digits")


def test_an_archive_is_unpacked_and_its_wrapping_is_the_suites_name(models: Models, staging: Staging) -> None:
    packed = models.archive(
        *(f"zoo/{name}.safetensors" for name in ("base", "digits", "roads")),
        "zoo/open_clip_config.json",
        extra=[("zoo/README.md", b"#"), ("__MACOSX/zoo/._base.safetensors", b"x"), ("zoo/optimizer.pt", b"x")],
    )
    found = staging.receive([Handed("download.zip", packed)])
    assert found.files == 4 and staging.called == "zoo" and not found.refused
    assert found.left_out == ["zoo/README.md", "__MACOSX/zoo/._base.safetensors", "zoo/optimizer.pt"]
    assert there(staging) == ["base.safetensors", "digits.safetensors", "open_clip_config.json", "roads.safetensors"]
    assert sorted(found.places["download.zip"]) == there(staging)
    staging.remove([*found.places["download.zip"][1:], "../../elsewhere"])
    assert len(there(staging)) == 1


def test_a_whole_suite_in_an_archive_keeps_its_own_description(models: Models, staging: Staging, suite: Suite) -> None:
    found = staging.receive([Handed("tiny.zip", models.archive(*models.files))])
    assert not found.refused and staging.is_described and staging.called == "tiny"
    assert load_suite(staging.files).task_names == suite.task_names


def test_a_description_that_can_not_be_read_is_refused_and_the_rest_is_taken(models: Models, staging: Staging) -> None:
    handed = [Handed("base.safetensors", models.files["base.safetensors"]), Handed("suite.yaml", b"name: [x")]
    found = staging.receive(handed)
    assert found.files == 1 and list(found.refused) == ["suite.yaml"] and not staging.is_described
    assert staging.receive([Handed("suite.yaml", b"name: x")]).files == 1 and staging.is_described
    staging.forget_description()
    assert there(staging) == ["base.safetensors"] and not staging.is_described


def test_adapters_are_put_on_the_base_of_a_known_suite(staging: Staging, suite: Suite, tmp_path: Path) -> None:
    write_adapter(tmp_path / "roads-lora", 3)
    files = {path.name: path.read_bytes() for path in (tmp_path / "roads-lora").iterdir()}
    loose = [Handed(name, content) for name, content in files.items()]
    assert not staging.receive(loose).refused
    assert staging.unnamed() == ["adapter_model.safetensors"]
    with pytest.raises(SuiteError, match="can't be a name"):
        staging.call("../roads")
    staging.call("roads")
    assert not staging.unnamed()
    staging.receive([Handed(f"leaves-lora/{name}", content) for name, content in files.items()])
    adopt(staging, suite, settings_of(suite))
    adopt(staging, suite, settings_of(suite))  # again: one base
    made = propose(staging.files, base_of(staging), answers=answers_of(staging))
    assert not made.unsaid and made.content["base"] == "base-of-tiny/base.safetensors"
    assert {task["name"]: task["checkpoint"] for task in made.content["tasks"]} == {
        "leaves": "leaves-lora/",
        "roads": "roads/",
    }
    assert made.content["logit_scale"] == suite.logit_scale
    assert made.content["architecture"]["vision_cfg"] == suite.architecture["vision_cfg"]  # type: ignore[index]
    init_suite(staging.files, base_of(staging), "lora", force=True, answers=answers_of(staging))
    path = staging.finish("lora")
    assert load_suite(path).mergeable() == ("leaves", "roads")
    shutil.rmtree(path.parent)
    assert (suite.folder / "base.safetensors").is_file()  # links lead there


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (["digits/test/zero/1.png", "digits/test/one/1.png"], ["digits/test/one/1.png", "digits/test/zero/1.png"]),
        (["test/zero/1.png", "test/one/1.png"], ["digits/test/one/1.png", "digits/test/zero/1.png"]),
        (["zero/1.png", "one/1.png"], ["digits/test/one/1.png", "digits/test/zero/1.png"]),
        (
            ["sets/digits/test/zero/1.png", "sets/roads/val/one/1.png"],
            ["digits/test/zero/1.png", "roads/val/one/1.png"],
        ),
    ],
)
def test_images_in_class_folders_go_where_a_suite_finds_them(
    staging: Staging, members: list[str], expected: list[str]
) -> None:
    packed = Models({}).archive(extra=[(name, picture(number)) for number, name in enumerate(members)])
    found = staging.receive([Handed("digits.zip", packed)])
    assert there(staging) == expected
    assumed = ["digits: its class folders lie in no folder test or val; taken as test images"]
    assert found.remarks == (assumed if members[0].startswith("zero") else [])


BAD = {
    "text.safetensors": (b"no weights at all", "text.safetensors: "),
    "page.pt": (b"<!DOCTYPE html><html>", "page.pt: a web page"),
    "empty.safetensors": (b"", "empty"),
    "set.npz": (b"nonsense", "set.npz: not a readable .npz file"),
    "broken.zip": (b"PK\x03\x04nonsense", "broken.zip|not a readable zip archive|directory"),
    "../../up.safetensors": (b"x", "leads out of the folder"),
    "/etc/up.safetensors": (b"x", "leads out of the folder"),
    "C:\\up.safetensors": (b"x", "leads out of the folder"),
    "line\nbreak.pt": (b"x", "without control characters"),
    "a" * 300 + ".pt": (b"x", "a name of 303 bytes"),
    "/".join("abcdefghijk") + ".pt": (b"x", "at most 10 folders deep"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_and_a_good_one_beside_it_is_taken(name: str, models: Models, staging: Staging) -> None:
    content, expected = BAD[name]
    found = staging.receive([Handed(name, content), *models.handed("digits.safetensors")])
    assert found.files == 1 and there(staging) == ["digits.safetensors"]
    (reason,) = found.refused.values()
    assert re.search(expected, reason), reason
    assert str(staging.home) not in reason
    assert not [path for path in staging.place.rglob("*") if path.name.startswith("batch")]


def linked() -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("link.safetensors")
    member.external_attr = 0o120777 << 16
    return member


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ([("../up.safetensors", b"x")], "leads out"),
        ([("a/../../up.safetensors", b"x")], "leads out"),
        ([(linked(), b"/etc/passwd")], "is a link or a device"),
        ([("zeros.npz", bytes(2 * 2**20))], "more than 4 times as many"),
        ([("notes.txt", b"x")], "holds no weights, no images"),
    ],
    ids=["up", "around", "link", "bomb", "nothing"],
)
def test_an_archive_that_is_odd_in_one_place_is_refused_whole(
    extra: list[tuple[str, bytes]], expected: str, models: Models, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merging.suites.incoming.unpacking.MAX_SMALL_BYTES", 2**20)  # 256 MiB take seconds
    monkeypatch.setattr("merging.suites.incoming.unpacking.MAX_GROWTH", 4 if "times" in expected else 100)
    members = [] if expected.startswith("holds") else ["digits.safetensors"]
    found = staging.receive([Handed("odd.zip", models.archive(*members, extra=extra))])
    assert expected in found.refused["odd.zip"] and there(staging) == [] and found.files == 0


def test_more_than_there_is_room_for_is_refused(
    models: Models, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(models.files["digits.safetensors"])
    monkeypatch.setattr("merging.suites.incoming.staging.room", lambda place: size - 1)
    found = staging.receive(models.handed("digits.safetensors", "open_clip_config.json"))
    assert there(staging) == ["open_clip_config.json"] and "make room" in found.refused["digits.safetensors"]
    found = staging.receive([Handed("zoo.zip", models.archive("digits.safetensors", "roads.safetensors"))])
    assert "there is room for" in found.refused["zoo.zip"] or "make room" in found.refused["zoo.zip"]


def test_two_files_of_one_name_are_told_apart_or_refused(models: Models, staging: Staging) -> None:
    found = staging.receive(models.handed("digits.safetensors", "digits.safetensors", "roads.safetensors"))
    assert "2 files are called so" in found.refused["digits.safetensors"] and there(staging) == ["roads.safetensors"]
    found = staging.receive(models.handed("roads.safetensors"))
    assert found.remarks == ["roads.safetensors: was here already, the same"] and not found.refused
    other = Handed("roads.safetensors", models.files["leaves.safetensors"])
    assert "another file of this name" in staging.receive([other]).refused["roads.safetensors"]
    assert (staging.files / "roads.safetensors").read_bytes() == models.files["roads.safetensors"]
    in_folders = [Handed(f"{name}/model.safetensors", models.files[f"{name}.safetensors"]) for name in TASKS[:2]]
    assert staging.receive(in_folders).files == 2


def test_what_lies_on_this_machine_is_linked_and_left_as_it_is(
    staging: Staging, own_suite: Path, tmp_path: Path
) -> None:
    (own_suite / "suite.yaml").unlink()
    before = sorted(path.name for path in own_suite.iterdir())
    for name in ("val/zero/1.png", "val/one/1.png"):
        (own_suite / "circles" / name).parent.mkdir(parents=True, exist_ok=True)
        (own_suite / "circles" / name).write_bytes(picture(1))
    (own_suite / "circles.npz").unlink()
    staging.link(own_suite)
    assert (staging.files / "base.safetensors").is_symlink() and staging.called == own_suite.name
    made = init_suite(staging.files, name="linked", force=True)
    assert {task["data"]["kind"] for task in made.content["tasks"]} == {"arrays", "imagefolder"}
    suite = load_suite(staging.finish("linked"))
    assert suite.mergeable() == TASKS and suite.checkpoint("roads").fingerprint
    assert sorted(path.name for path in own_suite.iterdir()) == sorted(
        {*before, "circles"} - {"suite.yaml"} - {"circles.npz"}
    )
    another = Staging.begun(tmp_path / "home")
    another.link(own_suite / "roads.safetensors", "streets")
    assert there(another) == ["streets/open_clip_config.json", "streets/roads.safetensors"]
    with pytest.raises(SuiteError, match="no such file or folder"):
        another.link(tmp_path / "gone")


def test_a_pickled_model_waits_for_its_conversion(staging: Staging) -> None:
    import torch

    content = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), content)
    assert staging.receive([Handed("whole.pt", content.getvalue())]).files == 1
    staging.converted.mkdir()
    (staging.converted / "whole.safetensors").write_bytes(b"converted")
    staging.exchange("../../elsewhere.pt", "whole.safetensors")
    assert there(staging) == ["whole.pt"]
    staging.exchange("whole.pt", "whole.safetensors")
    assert there(staging) == ["whole.safetensors"]


def test_names_of_suites_are_bounded_and_taken_once(models: Models, staging: Staging) -> None:
    for name in ("", "../mine", ".mine", "a/b", "x" * 81, "mine."):
        with pytest.raises(SuiteError, match="can't be a name"):
            staging.destination(name)
    staging.receive(models.handed("digits.safetensors"))
    (staging.home / "suites" / "mine").mkdir(parents=True)
    with pytest.raises(SuiteError, match="there is a suite mine"):
        staging.finish("mine")
    assert there(staging) == ["digits.safetensors"]


def test_what_nobody_asks_for_is_gone_after_a_day(models: Models, tmp_path: Path) -> None:
    old = Staging.begun(tmp_path)
    old.receive(models.handed("digits.safetensors"))
    Staging.begun(tmp_path)
    assert Staging.found(tmp_path, old.token) == old
    fresh = Staging.begun(tmp_path, time.time() + 25 * 3600)
    assert Staging.found(tmp_path, old.token) is None
    assert Staging.found(tmp_path, fresh.token) == fresh
    fresh.discard()
    assert Staging.found(tmp_path, fresh.token) is None and Staging.found(tmp_path, "../..") is None
    with pytest.raises(SuiteError, match="not there any more"):
        fresh.receive(models.handed("digits.safetensors"))


def killed(work: Callable[[], object]) -> None:
    """Do something in a process of its own, which is to be killed on the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which do nothing here
        child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def test_a_kill_in_the_middle_loses_what_was_being_written_and_nothing_else(
    models: Models, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging.receive(models.handed("base.safetensors", "open_clip_config.json", "roads.safetensors"))
    before = staging.listing()

    class Deadly(Handed):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                os.kill(os.getpid(), signal.SIGKILL)
            return super().read(100)

    killed(lambda: staging.receive([Deadly("digits.safetensors", models.files["digits.safetensors"])]))
    again = Staging.found(staging.home, staging.token)
    assert again is not None and again.listing() == before
    remove_leftovers(staging.home)
    assert [path.name for path in staging.place.iterdir()] == ["files"]

    def settling() -> None:
        rename = os.rename

        def one_file(*paths: Any) -> None:
            rename(*paths)
            os.kill(os.getpid(), signal.SIGKILL)

        os.rename = one_file  # type: ignore[assignment]
        staging.receive(models.handed("leaves.safetensors", "circles.safetensors"))

    killed(settling)
    remove_leftovers(staging.home)
    (arrived,) = again.listing().keys() - before.keys()  # whole, as it says
    assert (staging.files / arrived).read_bytes() == models.files[arrived]
    again.remove([arrived])

    def adding() -> None:
        init_suite(staging.files, name="mine", force=True)
        os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        staging.finish("mine")

    killed(adding)
    assert not (staging.home / "suites" / "mine").exists() and not staging.is_described
    assert again.receive(models.handed("digits.safetensors")).files == 1
    init_suite(again.files, name="mine", force=True)
    assert load_suite(again.finish("mine")).mergeable() == ("digits", "roads")
