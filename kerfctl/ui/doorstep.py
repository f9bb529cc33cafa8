"""Hands a browser on this machine the cookie, once, for a code that only this user can read.

The code is in a file that the browser opens and sends on in the body of a POST, so that it is in no URL and no list of
processes. The doorstep has a port of its own: cookies belong to a host, not to a port.
"""

import hmac
import html
import secrets
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

LARGEST = 4096
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Kerf</title>
<form method="post" action="{action}"><label>Code <input name="code" value="{code}" autocomplete="off"></label>
<button>Open the page</button></form>{script}</html>
"""
_SEND = "<script>document.forms[0].submit()</script>"


class Doorstep:
    """Serves one form on 127.0.0.1. `used` is called when the code was."""

    def __init__(self, cookie: str, page: str, used: Callable[[], None] = lambda: None) -> None:
        self.code = secrets.token_urlsafe(18)
        self._cookie = cookie
        self._page = page
        self._used = used
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, name="doorstep", daemon=True).start()

    def write_file(self, folder: Path) -> Path:
        """A file that sends the code as soon as a browser opens it; this user alone may read it."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"open-kerf-{urlsplit(self._page).port}.html"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(_PAGE.format(action=self.url, code=self.code, script=_SEND), encoding="utf-8")
        return path

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()

    def take(self, code: str) -> bool:
        """Whether this is the code; it is none afterwards."""
        with self._lock:
            right = bool(self.code) and hmac.compare_digest(code.encode(), self.code.encode())
            if right:
                self.code = ""
        return right

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        doorstep = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200, _PAGE.format(action=html.escape(doorstep.url), code="", script=""))

            def do_POST(self) -> None:
                length = self.headers.get("Content-Length", "")
                size = min(int(length), LARGEST) if length.isdigit() else 0
                sent = parse_qs(self.rfile.read(size).decode(errors="replace")).get("code", [""])[0]
                if not doorstep.take(sent):
                    self._answer(403, "This code was used, or is another one. Run kerf ui again.")
                    return
                self.send_response(303)
                self.send_header("Set-Cookie", doorstep._cookie)
                self.send_header("Location", doorstep._page)
                self.send_header("Content-Length", "0")
                self.end_headers()
                doorstep._used()

            def log_message(self, *_: object) -> None:
                """Nothing of a request is printed."""

            def _answer(self, status: int, words: str) -> None:
                body = words.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Cache-Control", "no-store")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        return Handler
