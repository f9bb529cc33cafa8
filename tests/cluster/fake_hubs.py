"""Hugging Face's and ModelScope's hubs as one small server: the paths that their own commands ask for."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

COMMIT = "0" * 40
CHUNK = 2**16


@dataclass
class Hub:
    """One repository, `org/model`, under two protocols. `asked`: files and the byte from which they were asked for."""

    files: dict[str, bytes]
    asked: list[tuple[str, int]] = field(default_factory=list)
    damaged: bool = False
    """One byte of the weights differs from what the hub says of them."""
    held: str = ""
    """This file stops in its middle until it is let go."""
    let_go: threading.Event = field(default_factory=threading.Event)
    half_sent: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def body(self, name: str) -> bytes:
        """What is sent."""
        found = self.files[name]
        return b"\xff" + found[1:] if self.damaged and name.endswith(".safetensors") else found


def git_id(body: bytes) -> str:
    """How Hugging Face names a small file's content."""
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def hugging_face_entry(name: str, body: bytes) -> dict[str, Any]:
    found = {"type": "file", "path": name, "size": len(body), "oid": git_id(body)}
    lfs = {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 130}
    return {**found, "lfs": lfs} if name.endswith(".safetensors") else found


def modelscope_entry(name: str, body: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(body).hexdigest()
    large = name.endswith(".safetensors")
    return {"Name": name, "Path": name, "Type": "blob", "Size": len(body), "Sha256": digest, "IsLFS": large}


@contextmanager
def serving(hub: Hub, address: str) -> Iterator[Hub]:
    """The hub at an address while the context lasts; `hub.port` is its port."""

    class Handler(_Handler):
        of = hub

    server = ThreadingHTTPServer((address, 0), Handler)
    server.daemon_threads = True
    hub.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.let_go.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    of: Hub

    def log_message(self, *_: object) -> None:
        """Tests look at `asked`."""

    def do_HEAD(self) -> None:
        self._respond()

    def do_GET(self) -> None:
        self._respond()

    def _respond(self) -> None:
        url = urlparse(self.path)
        query, files = parse_qs(url.query), self.of.files
        if url.path == "/api/v1/models/org/model/repo/files":
            listed = [modelscope_entry(*item) for item in files.items()]
            self._send(json.dumps({"Code": 200, "Success": True, "Data": {"Files": listed}}).encode())
        elif url.path == "/api/v1/models/org/model/repo":
            self._file(query["FilePath"][0])
        elif "/tree/" in url.path:
            self._send(json.dumps([hugging_face_entry(*item) for item in files.items()]).encode())
        elif url.path.startswith("/api/models/org/model"):
            siblings = [{"rfilename": name} for name in files]
            self._send(json.dumps({"id": "org/model", "sha": COMMIT, "siblings": siblings}).encode())
        elif url.path.startswith("/org/model/resolve/") and url.path.rsplit("/", 1)[1] in files:
            self._file(url.path.rsplit("/", 1)[1])
        else:
            self._send(b"{}", 404)

    def _file(self, name: str) -> None:
        hub, body = self.of, self.of.body(name)
        asked = self.headers.get("Range")
        first, last = (asked or "bytes=0-").removeprefix("bytes=").split("-")
        start, end = int(first), min(int(last or len(body) - 1), len(body) - 1)
        if self.command == "GET":
            hub.asked.append((name, start))
        whole, large = hub.files[name], name.endswith(".safetensors")
        tag = hashlib.sha256(whole).hexdigest() if large else git_id(whole)
        more = {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if asked:
            more["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
        self._send(body[start : end + 1], 206 if asked else 200, more, held=name == hub.held)

    def _send(self, body: bytes, status: int = 200, more: dict[str, str] | None = None, *, held: bool = False) -> None:
        self.send_response(status)
        for key, value in {**(more or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        for start in range(0, len(body), CHUNK):
            if held and start >= len(body) // 2 and not self.of.let_go.is_set():
                self.of.half_sent.set()
                self.of.let_go.wait()
            try:
                self.wfile.write(body[start : start + CHUNK])
            except OSError:  # the client was killed
                self.close_connection = True
                return
