"""The command that shares the dashboard with others."""

import json
import re
from pathlib import Path
from typing import Any

import click

from merging.cli.dashboard import port_option, require_port, run_server, suites_option
from merging.cli.group import main
from merging.cli.options import Bytes, PathAsTyped, home_option
from merging.core.errors import RunError
from merging.core.files import require_folder
from merging.core.owner import owner_secret

_PATH = re.compile(r"/?([\w.~-]+(/[\w.~-]+)*)?/?")


@main.command()
@port_option
@suites_option
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    help="Where it listens: this machine alone, for a proxy in front of it; 0.0.0.0 for the whole network.",
)
@click.option(
    "--base-path", default="", metavar="PATH", help="Below which path of a proxy's site it is, as in /merging."
)
@click.option(
    "--secrets",
    "secrets_file",
    type=PathAsTyped(dir_okay=False, exists=True),
    help="A file of Streamlit's secrets with a section [auth], by which people log in.",
)
@click.option(
    "--owner",
    "owners",
    multiple=True,
    envvar="MERGING_OWNERS",
    help="Who owns the dashboard, where people log in: a verified e-mail address, or sub: and the provider's name.",
)
@click.option(
    "--guest",
    "guests",
    multiple=True,
    envvar="MERGING_GUESTS",
    help="Who else may log in: e-mail addresses, or @ and a domain. Without any, whoever the provider knows.",
)
# The defaults from here on are those of `Limits`; to load that would cost every command a moment.
@click.option(
    "--runs-per-person",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="How many runs of a guest may wait.",
)
@click.option("--runs", type=click.IntRange(1), default=30, show_default=True, help="How many runs may wait in all.")
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    help="How long a guest's run may take.",
)
@click.option("--memory", type=Bytes(), help="How much memory a guest's run may hold (default: half of the machine's).")
@click.option(
    "--disk",
    type=Bytes(),
    default="20GB",
    show_default=True,
    help="With so much in the folder for runs, guests can ask for nothing more.",
)
@click.option(
    "--disk-per-person",
    type=Bytes(),
    default="2GB",
    show_default=True,
    help="The same for the files of one guest's runs.",
)
@click.option(
    "--upload-size",
    type=Bytes(),
    default="5MiB",
    show_default=True,
    help="The largest file that a browser may send; such files are held in memory.",
)
@home_option
def serve(
    port: int,
    suites: tuple[Path, ...],
    address: str,
    base_path: str,
    secrets_file: Path | None,
    owners: tuple[str, ...],
    guests: tuple[str, ...],
    upload_size: int,
    home: Path,
    **limits: Any,
) -> None:
    """Start the dashboard for others: they look, explore and ask for runs, within limits; Ctrl-C ends it.

    It says the owner's link. Whoever opens it may do everything, all others are guests.
    """
    from merging.core.guests import Limits, write_limits

    if not _PATH.fullmatch(base_path):
        raise RunError(f"{base_path!r} is no path; expected letters and digits between slashes, such as /merging")
    base = base_path.strip("/")
    require_folder(home)
    require_port(port, address)
    write_limits(home, Limits(**{**limits, "memory": limits["memory"] or _half_of_the_memory()}))
    log_in = has_log_in(secrets_file)
    if log_in and not owners:
        raise RunError("people log in here, but nobody is the owner; name somebody's e-mail address with --owner")
    host = f"[{address}]" if ":" in address else "127.0.0.1" if address == "0.0.0.0" else address
    path = f":{port}/{base}{'/' if base else ''}"
    click.echo(f"For guests: http://{_host_for_others(address) or host}{path}")
    click.echo(f"The owner: {'logs in' if log_in else f'http://{host}{path}?owner={owner_secret(home)}'}")
    click.echo("Behind a proxy these begin with its address. The owner's link is a key: show it to nobody.\n")
    options = {
        "server.address": address,
        "server.baseUrlPath": base,
        "server.headless": "true",
        "server.maxUploadSize": str(max(1, upload_size // 2**20)),
        "server.enableCORS": "true",
        "server.enableXsrfProtection": "true",
        "server.enableAgentApi": "false",
        "server.trustedUserHeaders": "{}",  # what a header says of who sent it is not believed
        "client.showErrorDetails": "none",
    }
    if secrets_file is not None:
        options["secrets.files"] = json.dumps([str(secrets_file.resolve())])
    environment = {
        "MERGING_SERVE": "1",
        "MERGING_OWNERS": " ".join(owners),
        "MERGING_GUESTS": " ".join(guests),
    }
    run_server(port, home, suites, options, environment)


def _host_for_others(address: str) -> str | None:
    """Where the whole network is let in, the address of this machine in it; none elsewhere, and without a network."""
    from merging.core.networks import own_networks

    return next(iter(own_networks()), None) if address == "0.0.0.0" else None


def _half_of_the_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().total) // 2


def has_log_in(secrets_file: Path | None) -> bool:
    """Whether the file of secrets, or those where Streamlit looks by itself, set up a log-in.

    Raises:
        RunError: one can't be read, or what is needed for a log-in is not installed.
    """
    import tomllib
    from importlib.util import find_spec

    usual = [place / ".streamlit" / "secrets.toml" for place in (Path.home(), Path.cwd())]
    found = False
    for path in [secrets_file] if secrets_file else usual:
        if path.is_file():
            try:
                found |= "auth" in tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise RunError(f"{path.name}: can't be read ({error})") from None
    if found and not all(map(find_spec, ("authlib", "httpx"))):
        raise RunError("people log in here, for which Authlib is needed: python -m pip install '.[serve]'")
    return found
