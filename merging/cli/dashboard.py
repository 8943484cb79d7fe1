"""The command that starts the dashboard, and how it is run."""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from merging.cli.group import main
from merging.cli.options import INTERRUPTED, PathAsTyped, home_option
from merging.core.errors import RunError
from merging.core.files import require_folder
from merging.core.places import dashboard


def port_option(function: Any) -> Any:
    """``--port``."""
    return click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True)(function)


def suites_option(function: Any) -> Any:
    """``--suites``."""
    return click.option(
        "--suites",
        type=PathAsTyped(file_okay=False, exists=True),
        multiple=True,
        envvar="MERGING_SUITES",
        help="A folder whose suites are shown, too: a suite.yaml up to two folders below it.",
    )(function)


@main.command()
@port_option
@suites_option
@click.option(
    "--phones",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Let phones in this network answer questions of the lesson, at this port; nothing else is served there.",
)
@click.option("--headless", is_flag=True, help="Open no browser.")
@home_option
def app(port: int, suites: tuple[Path, ...], phones: int | None, headless: bool, home: Path) -> None:
    """Start the dashboard on this machine and say its address; Ctrl-C ends it."""
    require_folder(home)
    require_port(port)
    environment = {}
    if phones is not None:
        if phones == port:
            raise RunError(f"the dashboard itself has port {port}; choose another with --phones")
        require_port(phones, "", "--phones")
        environment["MERGING_PHONES"] = str(phones)
    run_server(port, home, suites, {"server.headless": "true"} if headless else {}, environment)


def run_server(
    port: int, home: Path, suites: tuple[Path, ...], options: Mapping[str, str], environment: Mapping[str, str]
) -> None:
    """Run the dashboard until it is ended, and end with its status.

    Args:
        port: where it listens.
        home: its workspace.
        suites: folders whose suites are shown, too.
        options: Streamlit's options by name.
        environment: variables for it, besides those that it always gets.
    """
    import subprocess

    server_script = dashboard().parent / "ui" / "shell" / "serve.py"
    command = [sys.executable, str(server_script), "run", str(dashboard()), "--server.port", str(port)]
    command += [part for name, value in options.items() for part in (f"--{name}", value)]
    folders = os.pathsep.join(str(folder.resolve()) for folder in suites)
    settings = {"MERGING_HOME": str(home.resolve()), "MERGING_SUITES": folders, **environment}
    limit = click.get_current_context().find_root().params["image_limit"]
    if limit is not None:
        settings["MERGING_IMAGE_CACHE_GB"] = str(limit / 2**30)
    with subprocess.Popen(command, env={**os.environ, **settings}) as server:
        try:
            status = server.wait()
        except KeyboardInterrupt:  # a terminal tells the server too; whoever signals this process alone tells only us
            server.terminate()
            server.wait()
            status = INTERRUPTED
    click.get_current_context().exit(status)


def require_port(port: int, address: str = "127.0.0.1", option: str = "--port") -> None:
    """Insist on a port that nobody has, before a server is started that would say so among its own lines.

    Args:
        port: which.
        address: at which the server will listen; all of this machine's if empty.
        option: that names another one.

    Raises:
        RunError: it is in use, or not for everybody; or the machine does not have the address.
    """
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((address, port))
        except OSError as error:
            where = "" if address in ("", "127.0.0.1") else f"at {address} "
            raise RunError(
                f"port {port} can't be used {where}({error.strerror}); choose another with {option}, or end what uses "
                "it"
            ) from None
