"""A shared dashboard as `docs/hosting.md` has it: behind nginx, under a path, with a provider of OpenID Connect."""

import functools
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, HTTPSHandler, build_opener

import pytest
from playwright.sync_api import Browser
from websockets.exceptions import InvalidStatus

from merging.core.guests import OWNER
from merging.runs.worker.serve import sole_worker
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from tests.app.conftest import build_suite
from tests.app.finished_runs import finished, spec_of
from tests.dashboard import ROOT, free_port, wait_until_healthy
from tests.needed_packages import need_packages
from tests.waiting import PATIENCE
from tests.websocket import any_certificate, visiting

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
PEOPLE = {
    "ann": {"email": "ann@uni.example", "email_verified": True},
    "bob": {"email": "bob@uni.example", "email_verified": True},
    "cat": {"email": "cat@uni.example", "email_verified": True},
    "eve": {"email": "ann@uni.example", "email_verified": False},
    "joe": {"email": "joe@elsewhere.example", "email_verified": True},
}
GUESTS = ("@uni.example", "sub:eve")
OWNERS_OWN = {"Delete it", "Run it again", "Cancel", "Start the sweep", "Check all files", "Download"}


@dataclass(frozen=True)
class Site:
    """A dashboard behind its proxy.

    Attributes:
        url: as people know it.
        home: its workspace.
        suite: the one that is shown besides the embedded ones.
    """

    url: str
    home: Path
    suite: Suite


@contextmanager
def running(command: list[str], log: Path, health: str) -> Iterator[None]:
    """A server, from when it is healthy until the end."""
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            wait_until_healthy(health, process)
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE)


def provider(port: int) -> list[str]:
    """A provider of OpenID Connect that knows some people."""
    claims = [json.dumps({"sub": sub, **values}) for sub, values in PEOPLE.items()]
    return [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)] + [
        part for one in claims for part in ("--user-claims", one)
    ]


def certificate(folder: Path) -> None:
    """A certificate for this machine's name, and its key, as ``lab.example.pem`` and ``lab.example.key``."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "lab.example.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "lab.example.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def nginx(folder: Path, port: int, dashboard: int) -> list[str]:
    """nginx with the configuration of the page, but for its ports, its name and where the certificate lies."""
    (printed,) = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs" / "hosting.md").read_text("utf-8"), re.DOTALL)
    changes = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "server_name lab.example": "server_name localhost",
        "/etc/ssl/": f"{folder}/",
        "127.0.0.1:8501": f"127.0.0.1:{dashboard}",
    }
    for before, after in changes.items():
        assert printed.count(before) == (2 if before == "/etc/ssl/" else 1)
        printed = printed.replace(before, after)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    user = "user root;\n" if os.geteuid() == 0 else ""
    file = folder / "nginx.conf"
    file.write_text(
        f"{user}daemon off;\npid {folder}/nginx.pid;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}\n{printed}\n}}\n"
    )
    assert NGINX is not None
    return [NGINX, "-c", str(file), "-e", str(folder / "nginx.log")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The dashboard, shared; its worker is kept from coming, so that what is queued stays so."""
    need_packages("authlib", "oidc_provider_mock")
    if NGINX is None:
        reason = "no nginx on this machine (apt install nginx-light)"
        pytest.fail(reason) if os.environ.get("REQUIRE_PACKAGES") else pytest.skip(reason)
    folder = tmp_path_factory.mktemp("hosting")
    suite = load_suite(build_suite(folder / "suites" / "tiny"))
    for model in (folder / "suites" / "raw").parent.glob("tiny/*.safetensors"):  # a folder that is no suite yet
        (folder / "suites" / "raw").mkdir(exist_ok=True)
        shutil.copy(model, folder / "suites" / "raw")
    people, proxy, dashboard = free_port(), free_port(), free_port()
    url = f"https://localhost:{proxy}/merging"
    (folder / "secrets.toml").write_text(
        f'[auth]\nredirect_uri = "{url}/oauth2callback"\ncookie_secret = "{"s" * 40}"\nclient_id = "dashboard"\n'
        'client_secret = "of no use here"\n'
        f'server_metadata_url = "http://localhost:{people}/.well-known/openid-configuration"\n'
    )
    serve = [sys.executable, "-m", "merging", "serve", "--port", str(dashboard), "--base-path", "/merging"]
    serve += ["--secrets", str(folder / "secrets.toml"), "--owner", "Ann@uni.example"]
    serve += [part for guest in GUESTS for part in ("--guest", guest)]
    serve += ["--home", str(folder / "home"), "--suites", str(folder / "suites")]
    certificate(folder)
    with ExitStack() as parts:
        parts.enter_context(sole_worker(folder / "home"))
        parts.enter_context(running(provider(people), folder / "people.log", f"http://localhost:{people}/"))
        health = f"http://127.0.0.1:{dashboard}/merging/_stcore/health"
        parts.enter_context(running(serve, folder / "serve.log", health))
        through = nginx(folder, proxy, dashboard)
        process = subprocess.Popen(through, stdin=subprocess.DEVNULL)
        parts.callback(process.wait, PATIENCE)
        parts.callback(process.terminate)
        yield Site(url, folder / "home", suite)


def test_people_log_in_with_a_browser(site: Site, browser: Browser) -> None:
    with browser.new_context(ignore_https_errors=True) as context:
        context.set_default_timeout(1000 * PATIENCE)
        context.route(lambda url: "localhost" not in url, lambda route: route.abort())
        page = context.new_page()
        page.goto(f"{site.url}/add_suite")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name="bob", exact=True).click()
        page.wait_for_url(f"{site.url}/**")
        page.get_by_text(re.compile("bob.*uni.example")).first.wait_for()
        page.get_by_role("button", name="Log out").wait_for()


Cookies = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module")
def log_in(site: Site) -> Cookies:
    """Log in somebody, and give what their browser would keep: the same steps, without drawing anything."""

    @functools.cache
    def logged_in(name: str) -> dict[str, str]:
        with visiting(site.url, {}) as visitor:
            (button,) = [one for one, label in visitor.run("add_suite").buttons.items() if label == "Log in"]
            way = visitor.run("add_suite", press=[button]).leads_to
        jar = CookieJar()
        opener = build_opener(HTTPCookieProcessor(jar), HTTPSHandler(context=any_certificate()))
        with opener.open(site.url.removesuffix("/merging") + way, timeout=PATIENCE) as form:
            address = form.url
        with opener.open(address, urlencode({"sub": name}).encode(), timeout=PATIENCE) as back:
            assert back.url.startswith(site.url)
        return {cookie.name: str(cookie.value) for cookie in jar if cookie.path == "/merging"}

    return logged_in


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ann", "The owner"),
        ("bob", "bob@uni.example"),
        ("eve", "guest "),
        ("joe", "joe@elsewhere.example is not among those whom the owner of this dashboard lets in."),
    ],
)
def test_people_are_who_the_provider_says(name: str, said: str, site: Site, log_in: Cookies) -> None:
    with visiting(site.url, log_in(name)) as visitor:
        drawn = visitor.run("task_models", "suite=tiny")
    assert said in drawn.texts and "Log out" in drawn.buttons.values()
    assert ("Tiny suite" in drawn.texts) == (name != "joe") and ("ann@uni.example" not in drawn.texts)


def everything(site: Site) -> list[object]:
    """All that somebody could have changed: rows of runs and sweeps, and the files beside them."""
    with sqlite3.connect(site.home / "runs.sqlite") as connection:
        there = [
            name for (name,) in connection.execute("select name from sqlite_master where name in ('runs', 'sweeps')")
        ]
        rows = [connection.execute(f"select * from {table}").fetchall() for table in sorted(there)]
    places = [site.suite.folder.parent, site.home / "runs", site.home / "exports"]
    return [*rows, sorted(str(path) for place in places for path in place.rglob("*"))]


def test_a_guest_can_do_nothing_that_the_owner_alone_may(site: Site, log_in: Cookies) -> None:
    space = Workspace(site.home)
    done = finished(space, site.suite)
    waiting = space.submit(spec_of(site.suite, merge="average"), OWNER)
    pages = {
        "runs": f"suite=tiny&run={done.id}",
        "sweeps": "suite=tiny",
        "add_suite": "suite=tiny",
        "leaderboard": "suite=tiny",
        "merge": "suite=tiny",
    }
    with visiting(site.url, log_in("ann")) as owner, visiting(site.url, log_in("bob")) as guest:
        offered: set[str] = set()
        for page, query in pages.items():
            hers, his = owner.run(page, query), guest.run(page, query)
            before, shown = everything(site), his.raw
            more = hers.buttons.keys() - his.buttons.keys()
            offered |= {hers.buttons[one] for one in more}
            typed = dict.fromkeys(hers.inputs - his.inputs, "/etc/hostname")
            for one in sorted(more):
                forged = guest.run(page, query, [one], typed)
                assert everything(site) == before, hers.buttons[one]
                assert not forged.buttons.keys() & more
                shown += forged.raw
            for secret in (site.home, site.suite.folder.parent, ROOT):
                assert str(secret).encode() not in shown, page
        assert offered >= OWNERS_OWN
        (delete,) = [one for one, label in owner.run("runs", pages["runs"]).buttons.items() if label == "Delete it"]
        owner.run("runs", pages["runs"], [delete])  # the very message that did nothing when a guest sent it
    assert [run.id for run in space.store.all()] == [waiting.id]
    space.store.delete(waiting.id)


@pytest.mark.parametrize(
    ("cookies", "headers"),
    [
        ({}, {"X-Forwarded-Email": "ann@uni.example", "X-Auth-Request-Email": "ann@uni.example", "Remote-User": "ann"}),
        ({"_streamlit_user": "forged"}, {}),
        ({"merging-guest": "00000000." + "0" * 64}, {}),
    ],
)
@pytest.mark.parametrize("query", ["", "owner=ann@uni.example"])
def test_nobody_is_believed(cookies: dict[str, str], headers: dict[str, str], query: str, site: Site) -> None:
    with visiting(site.url, cookies, headers) as visitor:
        drawn = visitor.run("runs", query)
    assert "Log in to see this dashboard" in drawn.texts and set(drawn.buttons.values()) == {"Log in"}


def test_a_header_gives_a_guest_no_more(site: Site, log_in: Cookies) -> None:
    forged = {"X-Forwarded-Email": "ann@uni.example", "X-Forwarded-User": "ann", "Remote-User": "ann"}
    with visiting(site.url, log_in("bob"), forged) as visitor:
        assert "bob@uni.example" in visitor.run("task_models", "suite=tiny").texts


def test_pages_of_others_can_not_talk_to_it(site: Site, log_in: Cookies) -> None:
    elsewhere = {"Origin": "https://elsewhere.example"}
    with pytest.raises(InvalidStatus), visiting(site.url, log_in("bob"), elsewhere) as visitor:
        visitor.run("")


def test_two_guests_at_once(site: Site, log_in: Cookies) -> None:
    """Neither sees what the other has set, both see what both have asked for, and each can cancel their own."""
    drafts = {"bob": "merge=average", "cat": "merge=task_arithmetic&merge.scaling=0.7"}
    with visiting(site.url, log_in("bob")) as bob, visiting(site.url, log_in("cat")) as cat:
        visitors = {"bob": bob, "cat": cat}
        drawn = {name: one.run("merge", f"suite=tiny&{drafts[name]}") for name, one in visitors.items()}
        assert "merge=average" not in drawn["cat"].texts and "scaling=0.7" not in bob.run("merge", "suite=tiny").texts
        for name, one in visitors.items():
            (merge,) = [key for key, label in drawn[name].buttons.items() if label == "Merge"]
            one.run("merge", f"suite=tiny&{drafts[name]}", [merge])
        asked = {run.person: run for run in Workspace(site.home).store.all()}
        assert set(asked) == {"bob@uni.example", "cat@uni.example"}
        assert asked["cat@uni.example"].spec.merge_params["scaling"] == 0.7
        for name, one in visitors.items():
            seen = one.run("runs", "suite=tiny")
            cancel = [key for key, label in seen.buttons.items() if label == "Cancel"]
            assert len(cancel) == 1 and asked[f"{name}@uni.example"].id in cancel[0]
            assert all(run.id.encode() in seen.raw for run in asked.values())
