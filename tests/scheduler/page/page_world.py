"""A page over a small world, asked over real HTTP."""

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

from tests.browser.world import Served

HEADERS = {"kerf-page": "1", "Content-Type": "application/json"}


class Browser:
    """Keeps the cookie as a browser does."""

    def __init__(self, page: Served) -> None:
        self._port = page.page.port
        self.cookie = ""

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout)

    def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        connection = self.connection(60)
        sent = {**({"Cookie": self.cookie} if self.cookie else {}), **headers}
        connection.request(method, path, None if body is None else json.dumps(body), sent)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if set_cookie := answer.headers.get("Set-Cookie"):
            self.cookie = set_cookie.partition(";")[0]
        kind = answer.headers.get("Content-Type", "")
        return answer.status, json.loads(content) if "json" in kind else content.decode(), answer.headers

    def post(self, path: str, body: object, **headers: str) -> tuple[int, Any]:
        return self.ask("POST", path, body, **{**HEADERS, **headers})[:2]

    def sign_in(self, token: str) -> int:
        return self.post("/api/sign-in", {"token": token})[0]

    @contextmanager
    def events(self) -> Iterator[Iterator[tuple[str, Any]]]:
        """The events of the stream, each with its content."""
        connection = self.connection(20)
        connection.request("GET", "/api/events", None, {"Cookie": self.cookie})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")

        def read() -> Iterator[tuple[str, Any]]:
            name = ""
            for line in answer:
                word, _, value = line.decode().rstrip("\n").partition(": ")
                if word == "event":
                    name = value
                elif word == "data":
                    yield name, json.loads(value)

        try:
            yield read()
        finally:
            answer.close()
            connection.close()


class SecureBrowser(Browser):
    """Reaches one host over TLS, whose certificate it checks, and keeps only cookies that such a host may set."""

    def __init__(self, host: str, port: int, trust: ssl.SSLContext) -> None:
        super().__init__(at_port(port))
        self.host = host
        self._trust = trust

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        return http.client.HTTPSConnection(self.host, self._port, timeout=timeout, context=self._trust)

    def picture(self) -> dict[str, dict[str, Any]]:
        with self.events() as events:
            return picture_of(events)


def at_port(port: int) -> Served:
    """A page of which only the port is known."""
    return cast("Served", SimpleNamespace(page=SimpleNamespace(port=port)))


def picture_of(events: Iterator[tuple[str, Any]]) -> dict[str, dict[str, Any]]:
    """The first picture, up to `ready`."""
    found: dict[str, dict[str, Any]] = {}
    for name, content in events:
        if name == "ready":
            return found
        if name == "rows":
            for section, rows in content.items():
                found.setdefault(section, {}).update(rows)
    raise AssertionError("the stream ended before the picture was whole")


def applied(picture: dict[str, dict[str, Any]], change: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The picture after a change: what the page's scripts do with it."""
    found = {section: dict(rows) for section, rows in picture.items()}
    for section, rows in change.items():
        found[section] = {
            key: row for key, row in {**found.get(section, {}), **rows}.items() if row is not None
        }  # fmt: skip
    return found
