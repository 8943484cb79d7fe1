"""Who sits at the other end of a session, and what they may do.

``merging app`` is for whoever sits at the machine: nobody asks. Where ``merging serve`` shares a dashboard, people are
known by Streamlit's own log-in if it is set up, else the owner by a link with a secret, and guests by nothing at all:
each browser gets a random name in a signed cookie. No header of a request says who somebody is.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import streamlit as st

from merging.core.errors import MergingError, RunError
from merging.core.guests import OWNER
from merging.core.owner import owner_secret
from merging.core.places import chosen_home
from merging.runs import Run
from ui.look.figure import escape_markdown
from ui.shell.rights import RIGHTS, Act, Role, allowed

LINK = "owner"  # in the URL: the owner's secret, for as long as it takes to read it
COOKIE = "merging-guest"
NOBODY = "guest"  # who has no name yet, and owns no run
_IS_OWNER, _NAME, _COOKIE_TO_SET = "session-is-owner", "session-name", "session-cookie"  # session state
_GUEST_NAME = re.compile(r"[0-9a-f]{8}")


class NotAllowed(MergingError):
    """Somebody may not do this here."""


class NotLoggedIn(MergingError):
    """There is nothing to see before somebody has logged in."""


def shared() -> bool:
    """Whether this dashboard is for others than whoever sits at the machine, see ``merging serve``."""
    return os.environ.get("MERGING_SERVE") == "1"


def arrive() -> str:
    """Find out who somebody is; to be called at the start of every run of a page, before anything is shown.

    Returns:
        A sentence to warn of, if their link says that they own the dashboard and they do not; else nothing.

    Raises:
        NotLoggedIn: log-in is set up, and they have not, or are not among those that are let in.
    """
    if not shared():
        return ""
    if has_log_in():
        _require_log_in()
        return ""
    given = st.query_params.get_all(LINK)
    if given:
        del st.query_params[LINK]  # before anybody copies the address
        if hmac.compare_digest(given[-1].encode(), owner_secret(chosen_home()).encode()):
            st.session_state[_IS_OWNER] = True
    if not st.session_state.get(_IS_OWNER) and _NAME not in st.session_state:
        _name_guest()
    return "This is not the owner's link, or not any more." if given and role() != "owner" else ""


def has_log_in() -> bool:
    """Whether people log in, which they do where Streamlit's log-in is set up."""
    return "is_logged_in" in st.user.to_dict()


def _require_log_in() -> None:
    if not st.user.get("is_logged_in"):
        raise NotLoggedIn("Log in to see this dashboard.")
    let_in = _listed("MERGING_GUESTS")
    if role() != "owner" and let_in and not _is_among(let_in):
        raise NotLoggedIn(f"{_account()} is not among those whom the owner of this dashboard lets in.")


def log_in_or_out(problem: str = "") -> None:
    """The button that leads to the provider's page, or says good-bye, and why there is nothing else to see.

    Args:
        problem: why; empty if there is no reason.
    """
    if problem:
        st.info(escape_markdown(problem), icon=":material/lock:")
    if st.user.get("is_logged_in"):
        st.button("Log out", icon=":material/logout:", on_click=st.logout, key="log-out")
    else:
        st.button("Log in", icon=":material/login:", on_click=st.login, key="log-in", type="primary")


def role() -> Role:
    """What somebody is to this dashboard."""
    if not shared():
        return "owner"
    if has_log_in():
        logged_in = st.user.get("is_logged_in") is True
        return "owner" if logged_in and _is_among(_listed("MERGING_OWNERS")) else "guest"
    return "owner" if st.session_state.get(_IS_OWNER) is True else "guest"


def person() -> str:
    """By what name somebody's runs are theirs; empty where nobody shares the dashboard."""
    if not shared():
        return ""
    if role() == "owner":
        return OWNER
    return _account() if has_log_in() else str(st.session_state.get(_NAME, NOBODY))


def may(act: Act, whose: Run | str | None = None) -> bool:
    """Whether somebody may do something.

    Args:
        act: what.
        whose: the run that it is done to, or the person who asked for that.
    """
    asked = whose.person if isinstance(whose, Run) else whose
    me = person()
    return allowed(act, role(), own=asked == me and me != NOBODY)


def require(act: Act, whose: Run | str | None = None) -> None:
    """Insist that somebody may do something; to be called where it is done.

    Raises:
        NotAllowed: they may not.
    """
    if not may(act, whose):
        raise NotAllowed(why_not(act))


@contextmanager
def told_of_errors() -> Iterator[None]:
    """For callbacks, whose errors reach nobody who looks after pages: say what went wrong in a corner."""
    try:
        yield
    except MergingError as error:
        st.toast(
            escape_markdown(f"{str(error)[:1].upper()}{str(error)[1:]}."), icon=":material/error:", duration="long"
        )


def why_not(act: Act) -> str:
    """Why a guest may not do something, in a sentence."""
    right = RIGHTS[act]
    who = "whoever asked for it, and the owner of this dashboard," if right.guest == "own" else "the owner"
    if right.guest != "own" and not right.owner:
        return f"nobody can {right.words} on a page"
    return f"only {who} may do this here: {right.words}"


def _listed(variable: str) -> set[str]:
    """E-mail addresses, ``@domain`` and ``sub:…`` of an environment variable."""
    return {entry.casefold() for entry in re.split(r"[\s,;]+", os.environ.get(variable, "")) if entry}


def _is_among(entries: set[str]) -> bool:
    email = _verified_email()
    names = {email, "@" + email.partition("@")[2]} if email else set()
    subject = st.user.get("sub")
    if isinstance(subject, str) and subject:
        names.add(f"sub:{subject}".casefold())
    return bool(names & entries)


def _verified_email() -> str:
    """The address that the provider has verified, in small letters; empty if it has not."""
    email = st.user.get("email")
    return email.casefold() if isinstance(email, str) and st.user.get("email_verified") is True else ""


def _account() -> str:
    """What to call somebody who is logged in; the same whenever they are."""
    subject = f"{st.user.get('iss')} {st.user.get('sub')}"
    return _verified_email() or f"guest {hashlib.sha256(subject.encode()).hexdigest()[:12]}"


def _name_guest() -> None:
    """The name in the browser's cookie, or a new one, which goes into it."""
    secret = owner_secret(chosen_home())
    name = guest_in(str(st.context.cookies.get(COOKIE, "")), secret)
    if not name:
        name = secrets.token_hex(4)
        st.session_state[_COOKIE_TO_SET] = sealed(name, secret)
    st.session_state[_NAME] = f"guest {name}"


def sealed(name: str, secret: str) -> str:
    """A guest's name as it goes into a cookie, which only this dashboard can write."""
    return f"{name}.{hmac.new(secret.encode(), f'guest {name}'.encode(), 'sha256').hexdigest()}"


def guest_in(cookie: str, secret: str) -> str:
    """The name that a cookie holds; empty if this dashboard did not write it."""
    name = cookie.partition(".")[0]
    written = _GUEST_NAME.fullmatch(name) is not None and hmac.compare_digest(
        cookie.encode(), sealed(name, secret).encode()
    )
    return name if written else ""


def say_who() -> None:
    """In the sidebar of a shared dashboard: as whom somebody is here; and the cookie that keeps a guest's name."""
    if not shared():
        return
    icon = "shield_person" if role() == "owner" else "person"
    called = "The owner" if role() == "owner" else escape_markdown(person())
    st.caption(f":material/{icon}: {called}", help=f"You may look at everything here{_besides()}.")
    if has_log_in():
        log_in_or_out()
    cookie = st.session_state.get(_COOKIE_TO_SET)
    if cookie:
        path = "/" + str(st.get_option("server.baseUrlPath")).strip("/")
        st.html(
            f'<script>document.cookie = "{COOKIE}={cookie}; path={path}; SameSite=Lax"</script>',
            unsafe_allow_javascript=True,
        )


def _besides() -> str:
    return ", and change everything" if role() == "owner" else ", and ask for runs"


def require_known(reference: str, shown: Collection[str]) -> None:
    """Insist on a suite that is shown, of whoever may not name others by their path.

    Raises:
        RunError: it is another.
    """
    if not may(Act.TYPE_PATHS) and reference not in shown:
        raise RunError("this suite is not shown here (any more); choose one in the sidebar")
