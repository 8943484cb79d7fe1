"""Who may add suites, and who sits at the machine: the one place that says so, and that every act of adding asks."""

from urllib.parse import urlsplit

import streamlit as st

from merging.core.errors import SuiteError
from ui.shell import session
from ui.shell.rights import Act

_LOCAL = ("localhost", "127.0.0.1", "::1")
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via")


def may_add() -> bool:
    """Whether whoever looks may add suites: in a dashboard of one's own everybody may who sees it."""
    return session.may(Act.ADD_SUITES)


def require_permission() -> None:
    """Insist on that.

    Raises:
        SuiteError: whoever asks may not.
    """
    if not may_add():
        raise SuiteError("suites are added by the owner of this dashboard; ask them to")


def sits_here() -> bool:
    """Whether the browser runs on this machine, or reaches it by a tunnel of its user's, without a proxy between.

    Only such a user may type paths: whoever can is shown what lies on the machine. A browser says by itself under
    which address it sees the dashboard; whoever pretends another one through a proxy that does not name itself is
    taken for the owner, which is why a dashboard for others asks first whether they are.
    """
    headers = st.context.headers
    addresses = [urlsplit(headers.get("Origin", "")).hostname, urlsplit(f"//{headers.get('Host', '')}").hostname]
    near = all(address in _LOCAL for address in addresses) and st.context.ip_address is None
    return session.may(Act.TYPE_PATHS) and near and not any(name in headers for name in _FORWARDED)
