"""A client of the dashboard that is no browser: it sends what it likes over the web socket, and reads the answers."""

import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from google.protobuf.message import Message
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

from tests.waiting import PATIENCE

# Shows that cookies and request come from one page; that can't be shown by who is no browser, and has to write both.
_XSRF = f"2|00000000|{'0' * 32}|1700000000"


def any_certificate() -> ssl.SSLContext:
    """Believes a server to be whoever it says."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@dataclass
class Drawn:
    """What a run of a page drew.

    Attributes:
        raw: all messages as they came.
        buttons: id → label of every button that can be pressed.
        inputs: ids of fields for text.
        failures: what went wrong in drawing it.
        texts: everything that is said, one after the other, without what keeps markdown from reading it.
        leads_to: where the browser is sent, if it is.
    """

    raw: bytes = b""
    buttons: dict[str, str] = field(default_factory=dict)
    inputs: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    texts: str = ""
    leads_to: str = ""

    def take(self, raw: bytes) -> bool:
        """Note one more message; whether it is the last one of the run."""
        message = ForwardMsg()
        message.ParseFromString(raw)
        kind = message.WhichOneof("type")
        if kind == "script_finished":
            return message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY  # else it is run again at once
        if kind == "auth_redirect":
            self.leads_to = message.auth_redirect.url
        if kind != "new_session":  # which names the script's own path
            self.raw += raw
        if kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            self._note(message.delta.new_element)
        return False

    def _note(self, element: Message) -> None:
        kind = str(element.WhichOneof("type"))
        drawn = getattr(element, kind)
        if kind in ("button", "download_button") and not drawn.disabled:
            self.buttons[drawn.id] = drawn.label
        if kind in ("text_input", "text_area"):
            self.inputs.add(drawn.id)
        if kind == "exception":
            self.failures.append(drawn.message)
        words = [getattr(drawn, name, "") for name in ("body", "message", "label", "value")]
        text = "\n".join(word for word in words if isinstance(word, str) and word)
        self.texts += re.sub(r"\\(?=[^\w\s])|\u2060", "", text) + "\n"


@contextmanager
def visiting(site: str, cookies: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Iterator["Visitor"]:
    """A session, as long as the block.

    Args:
        site: where the dashboard is, such as ``https://localhost:8443/merging``; its certificate is not looked at.
        cookies: name → value, as a browser has them.
        headers: others that are sent.
    """
    parts = urlsplit(site)
    sent = {"Origin": f"{parts.scheme}://{parts.netloc}", **(headers or {})}
    sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in {"_streamlit_xsrf": _XSRF, **cookies}.items())
    with connect(
        f"{parts.scheme.replace('http', 'ws')}://{parts.netloc}{parts.path}/_stcore/stream",
        subprotocols=["streamlit", _XSRF],  # type: ignore[list-item]
        additional_headers=sent,
        ssl=any_certificate() if parts.scheme == "https" else None,
        max_size=None,
        open_timeout=PATIENCE,
    ) as socket:
        yield Visitor(socket)


class Visitor:
    """One session."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    def run(
        self, page: str, query: str = "", press: Sequence[str] = (), typed: Mapping[str, str] | None = None
    ) -> Drawn:
        """Have a page drawn, with the arguments of :meth:`ask`."""
        self.ask(page, query, press, typed)
        drawn = Drawn()
        while True:
            raw = self._socket.recv(PATIENCE)
            assert isinstance(raw, bytes)
            if drawn.take(raw):
                return drawn

    def ask(
        self, page: str, query: str = "", press: Sequence[str] = (), typed: Mapping[str, str] | None = None
    ) -> None:
        """Ask for a page without waiting for it.

        Args:
            page: the name of its file.
            query: of its address.
            press: ids of buttons, whether or not the page has them.
            typed: id → text in fields, likewise.
        """
        message = BackMsg()
        asked = message.rerun_script
        asked.page_name, asked.query_string = page, query
        for one in press:
            asked.widget_states.widgets.add(id=one, trigger_value=True)
        for one, text in (typed or {}).items():
            asked.widget_states.widgets.add(id=one, string_value=text)
        self._socket.send(message.SerializeToString())
