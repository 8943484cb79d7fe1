"""A small Hugging Face hub on this machine: what huggingface_hub asks a hub for, and ways in which one can fail."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c" * 40


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class FakeHub:
    """What it has and how it misbehaves.

    Attributes:
        files: repository (``owner/name``, or ``datasets/owner/name``) → path → content.
        small: contents that are no large files: known by git's digest and sent by the hub itself.
        lies: content → what is sent instead.
        cut: bytes after which the next transfers break off, one after the other.
        drip: seconds between pieces of 64 KiB.
        ranges: whether a part of a file can be asked for.
        refused: repository → status and error code.
        private: repositories that not everybody may read.
        token: that of somebody who may write; None lets nobody.
        refused_uploads: whether large contents are not taken.
        uploads: large contents that were sent and belong to no commit so far, by digest.
        commits: repository → headers of the commits that were made in it.
        asked: every request: method, path and headers.
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    small: set[bytes] = field(default_factory=set)
    lies: dict[bytes, bytes] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    drip: float = 0.0
    ranges: bool = True
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    token: str | None = None
    refused_uploads: bool = False
    uploads: dict[str, bytes] = field(default_factory=dict)
    commits: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def transfers(self) -> list[str]:
        """What was fetched, by the range that was asked for."""
        sent = [(path, headers) for method, path, headers in self.asked if method == "GET" and "/api/" not in path]
        return [headers.get("Range", "all") for path, headers in sent if "/cdn/" in path or "/resolve/" in path]

    def digest(self, content: bytes) -> str:
        if content in self.small:
            return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return sha256(content)

    def answer(self, request: "_Request") -> None:
        path, _, _ = request.path.partition("?")
        self.asked.append((request.command, path, dict(request.headers)))
        if path.startswith("/cdn/"):
            content = next(
                each for files in self.files.values() for each in files.values() if sha256(each) == path.split("/")[-1]
            )
            self.send(request, content)
            return
        api = path.startswith("/api/")
        name = (
            path.removeprefix("/api/").removeprefix("models/").lstrip("/").split("/resolve/")[0].split("/revision/")[0]
        )
        if name in self.refused:
            status, code = self.refused[name]
            request.reply(status, {"X-Error-Code": code})
        elif name not in self.files:
            request.reply(401, {"X-Error-Code": "RepoNotFound"})
        elif api:
            siblings = [{"rfilename": file} for file in self.files[name]]
            private = name in self.private
            said = {"id": name, "sha": COMMIT, "siblings": siblings, "private": private}
            request.reply(200, {}, json.dumps(said).encode())
        else:
            revision, _, file = path.split("/resolve/")[1].partition("/")
            if revision not in ("main", COMMIT):
                request.reply(404, {"X-Error-Code": "RevisionNotFound"})
            elif file not in self.files[name]:
                request.reply(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            else:
                self.resolve(request, self.files[name][file])

    def take(self, request: "_Request") -> None:
        """Answer who sends something: the steps of an upload, in the order in which huggingface_hub takes them."""
        path, _, _ = request.path.partition("?")
        self.asked.append((request.command, path, dict(request.headers)))
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if path.startswith("/lfs/"):  # signed addresses: nobody says who they are
            if not self.refused_uploads:
                self.uploads[path.removeprefix("/lfs/")] = body
            request.reply(400 if self.refused_uploads else 200, {})
        elif path == "/api/validate-yaml":
            request.reply(200, {}, b"{}")
        elif self.token is None or request.headers.get("Authorization") != f"Bearer {self.token}":
            request.reply(403, {})
        elif path == "/api/repos/create":
            self.create(request, json.loads(body))
        elif path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.endpoint}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            request.reply(200, {}, json.dumps({"transfer": "basic", "objects": objects}).encode())
        elif "/preupload/" in path:
            modes = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            request.reply(200, {}, json.dumps({"files": modes}).encode())
        else:
            self.commit(request, path, [json.loads(line) for line in body.splitlines()])

    def create(self, request: "_Request", wanted: dict[str, str]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.files:
            request.reply(409, {})
            return
        self.files[name] = {".gitattributes": b""}
        if wanted.get("visibility") == "private":
            self.private.add(name)
        request.reply(200, {}, json.dumps({"url": f"{self.endpoint}/{name}"}).encode())

    def commit(self, request: "_Request", path: str, lines: list[dict[str, Any]]) -> None:
        name = path.removeprefix("/api/models/").split("/commit/")[0]
        files = dict(self.files[name])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                content = self.uploads.pop(value["oid"])
                assert sha256(content) == value["oid"] and len(content) == value["size"]
                files[value["path"]] = content
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        self.files[name] = files
        self.commits.setdefault(name, []).append(lines[0]["value"])
        said = {"commitUrl": f"{self.endpoint}/{name}/commit/{COMMIT}", "commitOid": COMMIT, "pullRequestUrl": None}
        request.reply(200, {}, json.dumps(said).encode())

    def resolve(self, request: "_Request", content: bytes) -> None:
        """A small file itself; of a large one where it is: with another host, as a delivery network."""
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{self.digest(content)}"'}
        if content in self.small:
            self.send(request, content, headers)
            return
        linked = {"X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
        place = f"http://localhost:{self.port}/cdn/{sha256(content)}"
        request.reply(302, {**headers, **linked, "Location": place})

    def send(self, request: "_Request", content: bytes, headers: dict[str, str] | None = None) -> None:
        body, status, headers = self.lies.get(content, content), 200, dict(headers or {})
        wanted = request.headers.get("Range")
        if wanted and self.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body, status = body[start:], 206
        length = len(body)
        if self.cut and request.command == "GET":
            body = body[: self.cut.pop(0)]
        request.reply(status, headers, body, length)


class _Request(BaseHTTPRequestHandler):
    hub: FakeHub

    def do_GET(self) -> None:
        self.hub.answer(self)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.hub.take(self)

    do_PUT = do_POST

    def reply(self, status: int, headers: dict[str, str], body: bytes = b"", length: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body) if length is None else length)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.write(body)

    def write(self, body: bytes) -> None:
        with suppress(ConnectionError):  # whoever asked may have had enough
            for start in range(0, len(body), 2**16):
                self.wfile.write(body[start : start + 2**16])
                time.sleep(self.hub.drip)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[FakeHub]:
    """A hub that answers until the block ends."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Request", (_Request,), {"hub": hub}))
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
