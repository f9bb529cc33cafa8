"""An administrator's client for the few REST calls of the sandbox itself. Standard library only."""

import http.client
import json
import ssl
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from sandbox.errors import SandboxError

CALL_SECONDS = 30.0
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML
FIELD_MANAGER = "kerf-sandbox"


class ApiError(SandboxError):
    """The API server refused the call, or could not be reached (status 0)."""

    def __init__(self, method: str, path: str, status: int, message: str) -> None:
        """`status` is the HTTP status code."""
        super().__init__(f"{method} {path}: {status} {message}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Api:
    """An API server as one user sees it. One kept-alive connection per thread.

    Every call returns the decoded JSON object and raises ApiError for anything that is not a 2xx answer.
    """

    url: str
    token: str
    tls: ssl.SSLContext
    _local: threading.local = field(default_factory=threading.local, repr=False, compare=False)
    _open: list[http.client.HTTPSConnection] = field(default_factory=list, repr=False, compare=False)

    def get(self, path: str) -> dict[str, Any]:
        """Read an object or a list, ``/api/v1/namespaces/default/pods``."""
        return self._json("GET", path)

    def text(self, path: str) -> str:
        """Read text: ``/readyz``, ``…/pods/NAME/log``."""
        return self._call("GET", path, None, "application/json").decode(errors="replace")

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object."""
        return self._json("POST", path, body)

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Change an object by a JSON merge patch."""
        return self._json("PATCH", path, body, MERGE_PATCH)

    def apply(self, path: str, body: dict[str, Any], manager: str = FIELD_MANAGER) -> dict[str, Any]:
        """Create or update an object by server-side apply that takes over fields of other managers."""
        return self._json("PATCH", f"{path}?fieldManager={manager}&force=true", body, APPLY_PATCH)

    def delete(self, path: str, grace_seconds: int | None = None) -> dict[str, Any]:
        """Delete an object with everything it owns. By default the API server would keep a Job's pods."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        grace = {} if grace_seconds is None else {"gracePeriodSeconds": grace_seconds}
        return self._json("DELETE", path, options | grace)

    def remove(self, path: str, grace_seconds: int | None = None) -> None:
        """Delete an object that a controller may have deleted already."""
        try:
            self.delete(path, grace_seconds)
        except ApiError as error:
            if error.status != 404:
                raise

    def is_ready(self) -> bool:
        """Whether the API server answers that it is ready."""
        try:
            return self.text("/readyz") == "ok"
        except ApiError:
            return False

    def close(self) -> None:
        """Close the connections of all threads. The next call opens a new one."""
        for connection in self._open:
            connection.close()  # http.client opens it again on demand

    def _json(
        self, method: str, path: str, body: dict[str, Any] | None = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._call(method, path, body, content_type))
        return answer

    def _call(self, method: str, path: str, body: dict[str, Any] | None, content_type: str) -> bytes:
        """As clients of Kubernetes do, wait and call again where the API server asks for it, up to `CALL_SECONDS`."""
        payload = None if body is None else json.dumps(body).encode()
        deadline = time.monotonic() + CALL_SECONDS
        while True:
            answer, content = self._exchange(method, path, payload, content_type)
            wait_s = _asked_to_wait(answer)
            if wait_s is None or time.monotonic() + wait_s > deadline:
                break
            time.sleep(wait_s)
        if not 200 <= answer.status < 300:
            raise ApiError(method, path, answer.status, _message(content))
        return content

    def _exchange(
        self, method: str, path: str, payload: bytes | None, content_type: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = self._connection()
        headers = {"Content-Type": content_type}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            try:
                connection.request(method, path, payload, headers)
                answer = connection.getresponse()
            except (http.client.RemoteDisconnected, ssl.SSLEOFError):
                # The server closed the idle connection between two calls. Nothing was read, so retry on a new one.
                connection.close()
                connection.request(method, path, payload, headers)
                answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ApiError(method, path, 0, str(error) or type(error).__name__) from None
        return answer, content

    def _connection(self) -> http.client.HTTPSConnection:
        connection: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            host = urlsplit(self.url).netloc
            connection = http.client.HTTPSConnection(host, timeout=CALL_SECONDS, context=self.tls)
            self._local.connection = connection
            self._open.append(connection)
        return connection


def _asked_to_wait(answer: http.client.HTTPResponse) -> float | None:
    """Seconds to wait by a 429, for instance while the API server fills its cache of a new kind."""
    after = answer.headers.get("Retry-After", "")
    return float(after) if answer.status == HTTPStatus.TOO_MANY_REQUESTS and after.isdecimal() else None


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")[:500]
