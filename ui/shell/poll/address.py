"""Under which address others reach what one sees: phones a code, a class a lesson."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from ui.shell.poll.web import PATH, Reach

_EVERYWHERE = ("", "0.0.0.0", "::")


@dataclass(frozen=True)
class Address:
    """Where the dashboard, or the questions for phones, are.

    Attributes:
        url: what stands before a page, or before the code, without a slash at the end.
        reachable: whether other machines get there, as far as can be seen from here.
    """

    url: str
    reachable: bool

    def of(self, code: str) -> str:
        """The link to a code."""
        return f"{self.url}/{PATH}/{code}"


def address_of(page: str, listens: str | None, reach: Reach, networks: list[str]) -> Address:
    """The address to show.

    Args:
        page: of the teacher's page, as its browser sees it: behind a proxy that is the proxy's address, with the path
            under which the dashboard lies there.
        listens: the address at which the dashboard listens; none for all of this machine's.
        reach: where phones are served.
        networks: this machine's addresses in its networks.

    >>> address_of("https://lab.org/merging/learn", "127.0.0.1", Reach(True), []).of("K7M2QX")
    'https://lab.org/merging/poll/K7M2QX'
    >>> address_of("http://localhost:8501/learn", "127.0.0.1", Reach(True, 8600), ["10.0.0.7"]).of("K7M2QX")
    'http://10.0.0.7:8600/poll/K7M2QX'
    """
    if reach.port is not None and networks:
        return Address(f"http://{networks[0]}:{reach.port}", True)
    return dashboard_at(page, listens, networks)


def dashboard_at(page: str, listens: str | None, networks: list[str]) -> Address:
    """The address of the dashboard for others, with the arguments of :func:`address_of`.

    >>> dashboard_at("http://localhost:8501/learn", "0.0.0.0", ["10.0.0.7"])
    Address(url='http://10.0.0.7:8501', reachable=True)
    >>> dashboard_at("http://localhost:8501/learn", "127.0.0.1", ["10.0.0.7"])
    Address(url='http://localhost:8501', reachable=False)
    """
    found = urlsplit(page)
    host, port = found.hostname or "localhost", found.port
    before = found.path.rstrip("/").rpartition("/")[0]
    if not _is_this_machine(host):
        return Address(f"{found.scheme}://{found.netloc.rpartition('@')[2]}{before}", True)
    if (listens or "") in _EVERYWHERE and networks:
        return Address(f"{found.scheme}://{networks[0]}{f':{port}' if port else ''}{before}", True)
    return Address(f"{found.scheme or 'http'}://{found.netloc or host}{before}", False)


def what_lets_others_in(page: str, networks: list[str], shared: bool) -> str:
    """What to do where others can't open what one sees, as sentences in Markdown.

    Args:
        page: as of :func:`address_of`.
        networks: this machine's addresses in its networks.
        shared: whether it was started by ``merging serve``.
    """
    port = urlsplit(page).port or 8501
    there = f"; here that is `http://{networks[0]}:{port}`" if networks else ""
    opened = f"with `merging serve --address 0.0.0.0` and open it at this machine's address in the network{there}"
    if shared:
        return f"Open it at the address of the proxy in front of it, or start it {opened}."
    return f"Start it {opened}, or let a proxy stand in front of `merging serve` (docs/hosting.md)."


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
