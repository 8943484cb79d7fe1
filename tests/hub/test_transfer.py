"""Downloads of single files: what arrives, what is refused, and what is left behind."""

import random
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
from filelock import FileLock
from huggingface_hub import hf_hub_download

from merging.core.errors import Cancelled, HubError
from merging.hub.cache import HubFile, located, promised_sha256, repository
from merging.hub.transfer import Remote, fetch, list_files, look_up, require_room
from tests.fake_hub import COMMIT, FakeHub, sha256

CONTENT = random.Random(0).randbytes(3 * 2**20 + 17)
FILE = HubFile(hub="zoo/cats")


def never() -> bool:
    return False


def get(remote: Remote, cancelled: Callable[[], bool] = never) -> Path:
    return fetch(remote, lambda _: None, cancelled)


def leftovers() -> list[str]:
    return sorted(path.name for path in repository("zoo/cats", "model").rglob("*") if path.is_file())


@pytest.fixture
def cats(hub: FakeHub) -> FakeHub:
    hub.files["zoo/cats"] = {"model.safetensors": CONTENT}
    return hub


def test_a_file_arrives_where_the_hubs_own_client_finds_it(cats: FakeHub) -> None:
    assert not located(FILE).exists()
    remote = look_up("zoo/cats", FILE.candidates)
    assert (remote.file, remote.size, remote.digest) == ("model.safetensors", len(CONTENT), sha256(CONTENT))
    seen: list[int] = []
    path = fetch(remote, seen.append, never)
    assert path == located(FILE) == remote.path and path.read_bytes() == CONTENT
    assert promised_sha256(path) == sha256(CONTENT)
    assert seen == sorted(seen) and seen[-1] == len(CONTENT)
    assert hf_hub_download("zoo/cats", "model.safetensors", local_files_only=True) == str(path)
    asked = len(cats.asked)
    assert get(remote) == path and len(cats.asked) == asked  # it is there


def test_the_best_kind_of_weight_file_is_taken(hub: FakeHub) -> None:
    hub.files["zoo/cats"] = {"pytorch_model.bin": b"old", "README.md": b"text"}
    assert get(look_up("zoo/cats", FILE.candidates)).name == "pytorch_model.bin" == located(FILE).name
    hub.files["zoo/cats"]["model.safetensors"] = b"new"
    assert get(look_up("zoo/cats", FILE.candidates)).name == "model.safetensors" == located(FILE).name


def test_small_files_have_gits_digest(hub: FakeHub) -> None:
    hub.files["zoo/cats"] = {"suite.yaml": b"name: cats"}
    hub.small.add(b"name: cats")
    path = get(look_up("zoo/cats", ["suite.yaml"]))
    assert path.read_bytes() == b"name: cats" and promised_sha256(path) is None
    hub.files["zoo/cats"]["other"] = b"honest"
    hub.small.add(b"honest")
    hub.lies[b"honest"] = b"mauled"
    with pytest.raises(HubError, match="other has the digest"):
        get(look_up("zoo/cats", ["other"]))


def test_wrong_content_is_removed(cats: FakeHub) -> None:
    cats.lies[CONTENT] = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(HubError, match=r"zoo/cats: model\.safetensors has the digest .* removed; try again"):
        get(look_up("zoo/cats", FILE.candidates))
    assert not located(FILE).exists() and leftovers() == []
    cats.lies.clear()
    assert get(look_up("zoo/cats", FILE.candidates)).read_bytes() == CONTENT


@pytest.mark.parametrize("length", [0, 1, 5 * 2**20])
def test_content_of_another_length_is_refused(cats: FakeHub, length: int) -> None:
    cats.lies[CONTENT] = (CONTENT * 2)[:length]
    with pytest.raises(HubError, match=r"broke off after|is longer than the hub says|the hub answered"):
        get(look_up("zoo/cats", FILE.candidates))
    assert not located(FILE).exists()


def test_a_broken_transfer_goes_on_where_it_stopped(cats: FakeHub) -> None:
    cats.cut = [1_000_000, 0, 500_000]
    assert get(look_up("zoo/cats", FILE.candidates)).read_bytes() == CONTENT
    assert cats.transfers() == ["all", "bytes=1000000-", "bytes=1000000-", "bytes=1500000-"]


def test_a_transfer_that_breaks_for_good_is_no_file_and_the_next_goes_on(cats: FakeHub) -> None:
    cats.cut = [1_000_000, *[0] * 5]
    with pytest.raises(HubError, match=r"broke off after 1000000 of \d+ bytes; the next download goes on from there"):
        get(look_up("zoo/cats", FILE.candidates))
    assert not located(FILE).exists() and leftovers() == [f"{sha256(CONTENT)}.incomplete"]
    cats.asked.clear()
    assert get(look_up("zoo/cats", FILE.candidates)).read_bytes() == CONTENT
    assert cats.transfers() == ["bytes=1000000-"]
    assert leftovers() == sorted([sha256(CONTENT), "main", "model.safetensors"])


def test_a_server_that_sends_everything_again_is_understood(cats: FakeHub) -> None:
    cats.cut, cats.ranges = [1_000_000], False
    assert get(look_up("zoo/cats", FILE.candidates)).read_bytes() == CONTENT


def test_what_was_left_by_something_else_does_not_get_in(cats: FakeHub) -> None:
    remote = look_up("zoo/cats", FILE.candidates)
    blob = repository("zoo/cats", "model") / "blobs" / f"{sha256(CONTENT)}.incomplete"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"x" * 100)
    with pytest.raises(HubError, match="has the digest"):
        get(remote)
    blob.write_bytes(b"x" * (len(CONTENT) + 1))
    assert get(remote).read_bytes() == CONTENT


def test_cancelling_keeps_what_came_and_is_no_file(cats: FakeHub) -> None:
    with pytest.raises(Cancelled, match="the next one goes on where it stopped"):
        get(look_up("zoo/cats", FILE.candidates), lambda: True)
    assert not located(FILE).exists() and leftovers() == [f"{sha256(CONTENT)}.incomplete"]
    assert get(look_up("zoo/cats", FILE.candidates)).read_bytes() == CONTENT


def test_a_new_commit_makes_the_old_file_absent(cats: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    old = get(look_up("zoo/cats", FILE.candidates))
    cats.files["zoo/cats"] = {"config.json": b"{}"}
    monkeypatch.setattr("tests.fake_hub.COMMIT", "d" * 40)
    get(look_up("zoo/cats", ["config.json"]))
    assert not located(FILE).exists() and old.exists()
    assert located(HubFile(hub="zoo/cats", revision=COMMIT)) == old


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, "RepoNotFound", "no such model on the Hugging Face hub, or a private one"),
        (404, "RepoNotFound", "no such model on the Hugging Face hub, or a private one"),
        (403, "GatedRepo", "has accepted the terms of this model"),
        (500, "", "the hub answered 500"),
        (429, "", "the hub answered 429"),
    ],
)
def test_refusals_are_said_in_words(hub: FakeHub, status: int, code: str, message: str) -> None:
    hub.refused["zoo/cats"] = (status, code)
    with pytest.raises(HubError, match=f"^zoo/cats: .*{message}"):
        look_up("zoo/cats", FILE.candidates)


def test_what_a_repository_lacks_is_named(cats: FakeHub) -> None:
    with pytest.raises(HubError, match=r"^zoo/cats: no a\.bin or b\.bin in revision 'main'"):
        look_up("zoo/cats", ["a.bin", "b.bin"])
    with pytest.raises(HubError, match=r"^zoo/cats: the model has no revision 'v2'"):
        look_up("zoo/cats", FILE.candidates, "v2")
    with pytest.raises(HubError, match=r"^zoo/dogs: no such model"):
        look_up("zoo/dogs", FILE.candidates)
    with pytest.raises(HubError, match=r"^zoo/dogs: no such dataset"):
        list_files("zoo/dogs")


def test_without_a_network_that_is_said(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")
    template = "http://127.0.0.1:1/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(HubError, match=r"^zoo/cats: the Hugging Face hub can't be reached"):
        look_up("zoo/cats", FILE.candidates)
    with pytest.raises(HubError, match=r"^zoo/cats: the Hugging Face hub can't be reached"):
        list_files("zoo/cats")


def test_offline_mode_is_respected(cats: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    try:
        with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
            look_up("zoo/cats", FILE.candidates)
    finally:
        huggingface_hub.close_session()
    assert cats.asked == []


def test_only_the_hub_is_told_who_asks(cats: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    cats.files["zoo/cats"]["small"] = b"small"
    cats.small.add(b"small")
    get(look_up("zoo/cats", FILE.candidates))
    get(look_up("zoo/cats", ["small"]))
    told = {path.split("/")[1]: "Authorization" in headers for method, path, headers in cats.asked if method == "GET"}
    assert told == {"cdn": False, "zoo": True}


def test_a_data_sets_files_are_listed(hub: FakeHub) -> None:
    hub.files["datasets/zoo/pets"] = {"README.md": b"", "data/test-00000-of-00001.parquet": b"1", "../evil": b""}
    assert list_files("zoo/pets") == ["README.md", "data/test-00000-of-00001.parquet"]


def test_a_full_disk_is_noticed_before(hub: FakeHub) -> None:
    require_room(1)
    with pytest.raises(HubError, match=r"1000000000\.0 GB are to be downloaded, .* GB are free"):
        require_room(10**18)


@pytest.mark.parametrize(
    "fields",
    [
        {"hub": "nobody"},
        {"hub": "a/b/c"},
        {"hub": "a/b", "file": "../x"},
        {"hub": "a/b", "file": "/x"},
        {"hub": "a/b", "file": "a\\b"},
        {"hub": "a/b", "revision": "../main"},
        {"hub": "a/b", "revision": "refs/pr/1"},
        {"hub": "a/b", "sha256": "12"},
        {"hub": "a/b", "extra": "1"},
    ],
)
def test_references_that_lead_elsewhere_are_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        HubFile.model_validate(fields)


def test_a_file_put_into_the_cache_by_hand_is_found(hub: FakeHub) -> None:
    place = located(FILE)
    assert place.relative_to(repository("zoo/cats", "model")).as_posix() == "snapshots/main/model.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"mine")
    assert located(FILE) == place and promised_sha256(place) is None


def test_a_file_is_downloaded_once_at_a_time(cats: FakeHub) -> None:
    """The lock is the one that the hub's own library takes."""
    remote = look_up("zoo/cats", FILE.candidates)
    folder = repository("zoo/cats", "model")
    lock = folder.parent / ".locks" / folder.name / f"{remote.digest}.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock), pytest.raises(HubError, match="is being downloaded already; wait for that to end"):
        get(remote)
    assert get(remote).read_bytes() == CONTENT
