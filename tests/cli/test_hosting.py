"""``merging serve`` up to where a server would start."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from merging.cli import hosting, main
from merging.core.guests import Limits, read_limits
from merging.core.networks import own_networks
from merging.core.owner import owner_secret
from tests.dashboard import free_port

AUTH = '[auth]\nclient_id = "x"\n'


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What servers were asked for; none is started."""
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(hosting, "run_server", lambda *given: asked.append(given))
    return asked


def serve(home: Path, *options: str) -> str:
    result = CliRunner().invoke(main, ["serve", "--home", str(home), "--port", str(free_port()), *options])
    return result.output


def test_it_says_both_addresses_and_writes_the_limits(tmp_path: Path, started: list[tuple[object, ...]]) -> None:
    said = serve(tmp_path, "--base-path", "/lab/merging/", "--minutes", "5", "--memory", "1GiB", "--disk", "3GB")
    assert "/lab/merging/\n" in said and f"/lab/merging/?owner={owner_secret(tmp_path)}\n" in said
    assert read_limits(tmp_path) == Limits(minutes=5, memory=2**30, disk=3 * 10**9)
    ((_, _, _, options, environment),) = started
    assert options["server.baseUrlPath"] == "lab/merging" and options["server.address"] == "127.0.0.1"  # type: ignore[index]
    assert json.loads(options["server.trustedUserHeaders"]) == {}  # type: ignore[index]
    assert environment["MERGING_SERVE"] == "1"  # type: ignore[index]


def test_where_the_network_is_let_in_guests_get_an_address_that_it_reaches(
    tmp_path: Path, started: list[tuple[object, ...]]
) -> None:
    said = serve(tmp_path, "--address", "0.0.0.0")
    reached = next(iter(own_networks()), "127.0.0.1")
    assert f"For guests: http://{reached}:" in said and "The owner: http://127.0.0.1:" in said and started


def test_limits_that_nobody_names_are_those_of_every_shared_dashboard(
    tmp_path: Path, started: list[tuple[object, ...]]
) -> None:
    serve(tmp_path)
    assert read_limits(tmp_path).model_copy(update={"memory": None}) == Limits() and started


def test_people_who_log_in_need_an_owner_and_no_link(tmp_path: Path, started: list[tuple[object, ...]]) -> None:
    (tmp_path / "secrets.toml").write_text(AUTH)
    log_in = ("--secrets", str(tmp_path / "secrets.toml"))
    assert "name somebody's e-mail address with --owner" in serve(tmp_path, *log_in)
    assert not started
    said = serve(tmp_path, *log_in, "--owner", "a@b.example", "--owner", "sub:7")
    assert "The owner: logs in" in said and "?owner=" not in said
    assert started[0][4]["MERGING_OWNERS"] == "a@b.example sub:7"  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--base-path", "/a b"), "'/a b' is no path"),
        (("--base-path", "../x?y"), "is no path"),
        (("--minutes", "0"), "0.0 is not in the range"),
        (("--runs", "0"), "0 is not in the range"),
        (("--memory", "much"), "'much' is no size"),
        (("--address", "203.0.113.7"), "can't be used at 203.0.113.7"),
        (("--secrets", "{home}/broken.toml"), "broken.toml: can't be read"),
    ],
)
def test_what_makes_no_sense_is_refused(
    options: tuple[str, ...], said: str, tmp_path: Path, started: list[tuple[object, ...]]
) -> None:
    (tmp_path / "broken.toml").write_text("[auth")
    assert said in serve(tmp_path, *(one.replace("{home}", str(tmp_path)) for one in options))
    assert not started
