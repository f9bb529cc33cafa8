"""The API server as raw JSON: one small class over a connection pool, and over the official client's configuration.

The official models decode slowly and drop fields they do not know; Kerf reads and writes dictionaries.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol
from urllib.parse import urlencode, urlsplit

import orjson

from kerf.kube.access import Access, access_of, command_of
from kerf.kube.errors import Gone, KubeError, Unreachable, error_of
from kerf.kube.fenced import FencedPoster
from kerf.wire.http import parse_date
from kerf.wire.json import at
from kerf.wire.lists import parse_list

Json = dict[str, Any]
Page = Iterable[Json]
Query = Mapping[str, str | int]
PatchKind = Literal["merge", "json", "apply"]
PAGE = 500
"""Objects a list call fetches at once."""
_PATCH_TYPES: dict[str, str] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}


class Kube(Protocol):
    """What Kerf needs of an API server. Every method raises a KubeError; all are safe from several threads.

    `create_while` alone is awaited: any number of them run at the same time, all on one event loop per `Kube`.
    """

    def moment_ms(self) -> int | None:
        """The API server's time of day, to the second, in milliseconds since 1970; None where it does not say."""

    def get(self, path: str, query: Query | None = None) -> Json:
        """One object, or a list as the server gives it."""

    def create(self, path: str, body: object, query: Query | None = None) -> Json:
        """POST."""

    async def create_while(self, path: str, body: object, holds: Callable[[], bool], timeout_s: float) -> Json:
        """POST that takes effect within `timeout_s` of a moment at which `holds()` was true, or never.

        Raises Withheld when it was not true, Unsent when the server was not reached: nothing has happened then. After
        any other Unreachable or Busy the outcome is unknown until `timeout_s` have passed.
        """

    def patch(self, path: str, body: object, kind: PatchKind = "merge", query: Query | None = None) -> Json:
        """PATCH; `apply` needs `fieldManager` in the query."""

    def replace(self, path: str, body: object) -> Json:
        """PUT; the object's resourceVersion makes it optimistic."""

    def delete(self, path: str, body: object | None = None) -> Json:
        """DELETE."""

    def list(self, path: str, query: Query | None = None) -> tuple[list[Json], str]:
        """All items, and the resourceVersion to watch from."""

    def pages(self, path: str, query: Query | None = None) -> Iterator[tuple[Page, str]]:
        """All items, a page at a time, each with the list's resourceVersion: for lists too large to hold at once.

        A page's items are read while it is walked through, once and before the next page is asked for.
        """

    def watch(
        self, path: str, resource_version: str, query: Query | None = None, timeout_s: int = 300
    ) -> Iterator[tuple[str, Json]]:
        """Events (type, object) until the server ends the watch. Raises Gone when it must be listed again."""


class KubeClient:
    """A Kube over HTTP."""

    def __init__(self, configuration: Any, timeout_s: float = 10.0) -> None:  # noqa: ANN401 (the library's own type is untyped)
        self._configuration = configuration
        # One server, one pool: a manager would parse the URL and look the pool up for every call.
        self._pool = configuration.pool() if isinstance(configuration, Access) else _library_pool(configuration)
        self._root = urlsplit(str(configuration.host)).path.rstrip("/")
        self._timeout_s = timeout_s
        self._fenced = FencedPoster(configuration)

    def close(self) -> None:
        """Close all connections; the client is done. Call it on the event loop if `create_while` was used."""
        self._pool.close()
        self._fenced.close()

    def moment_ms(self) -> int | None:
        response = self._send("GET", "/version", None, None, "application/json", self._timeout_s)
        return parse_date(response.headers.get("Date", ""))

    def get(self, path: str, query: Query | None = None) -> Json:
        return self._call("GET", path, None, query)

    def create(self, path: str, body: object, query: Query | None = None) -> Json:
        return self._call("POST", path, body, query)

    async def create_while(self, path: str, body: object, holds: Callable[[], bool], timeout_s: float) -> Json:
        target = f"{self._root}{path}?timeout={round(timeout_s * 1000)}ms"
        headers = {**self._headers(), "Content-Type": "application/json"}
        status, data = await self._fenced.post(target, orjson.dumps(body), headers, holds, timeout_s)
        return _decoded(status, data)

    def patch(self, path: str, body: object, kind: PatchKind = "merge", query: Query | None = None) -> Json:
        return self._call("PATCH", path, body, query, _PATCH_TYPES[kind])

    def replace(self, path: str, body: object) -> Json:
        return self._call("PUT", path, body)

    def delete(self, path: str, body: object | None = None) -> Json:
        return self._call("DELETE", path, body)

    def list(self, path: str, query: Query | None = None) -> tuple[list[Json], str]:
        items: list[Json] = []
        last = ""
        for page, last in self.pages(path, query):  # noqa: B007 (all pages carry the list's version)
            items += page
        return items, last

    def pages(self, path: str, query: Query | None = None) -> Iterator[tuple[Page, str]]:
        page: dict[str, str | int] = {"limit": PAGE, **(query or {})}
        while True:
            response = self._send("GET", path, None, page, "application/json", self._timeout_s)
            if response.status >= 400:
                raise _error(response.status, response.data)
            around, items = parse_list(response.data)
            meta = at(around, "metadata")
            yield items, str(meta.get("resourceVersion", ""))
            if not meta.get("continue"):
                return
            page["continue"] = meta["continue"]

    def watch(
        self, path: str, resource_version: str, query: Query | None = None, timeout_s: int = 300
    ) -> Iterator[tuple[str, Json]]:
        full: dict[str, str | int] = {
            **(query or {}),
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": timeout_s,
        }
        response = self._send("GET", path, None, full, None, timeout_s + 15.0)
        try:
            if response.status >= 400:
                raise _error(response.status, response.read())
            for line in self._lines(response):
                event = orjson.loads(line)
                if event.get("type") == "ERROR":
                    status = at(event, "object")
                    code = int(status.get("code") or 500)
                    raise error_of(code, str(status.get("reason", "")), str(status.get("message", "")))
                yield str(event["type"]), event["object"]
        except orjson.JSONDecodeError as error:
            raise Unreachable(f"the watch of {path} was cut within an event") from error
        finally:
            response.close()

    def _lines(self, response: Any) -> Iterator[bytes]:  # noqa: ANN401
        from urllib3.exceptions import HTTPError

        rest = b""
        try:
            for chunk in response.stream(64 * 1024, decode_content=False):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from filter(None, whole)
        except HTTPError as error:
            raise Unreachable(str(error)) from error
        if rest:
            yield rest

    def _call(
        self, method: str, path: str, body: object | None, query: Query | None = None, content: str = "application/json"
    ) -> Json:
        response = self._send(method, path, body, query, content, self._timeout_s)
        return _decoded(response.status, response.data)

    def _send(
        self,
        method: str,
        path: str,
        body: object | None,
        query: Query | None,
        content: str | None,
        timeout_s: float,
    ) -> Any:  # noqa: ANN401
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        url = f"{self._root}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = self._headers()
        if body is not None:
            headers["Content-Type"] = content or "application/json"
        try:
            return self._pool.urlopen(
                method,
                url,
                body=None if body is None else orjson.dumps(body),
                headers=headers,
                preload_content=content is not None,
                retries=False,
                redirect=False,
                timeout=Timeout(connect=min(timeout_s, 5.0), read=timeout_s),
            )
        except HTTPError as error:
            raise Unreachable(f"{method} {path}: {error}") from error

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "kerf"}
        for setting in self._configuration.auth_settings().values():
            headers[setting["key"]] = setting["value"]
        return headers


def connect(
    kubeconfig: str | None,
    *,
    connections: int = 32,
    timeout_s: float = 10.0,
    context: str | None = None,
    option: str = "--kubeconfig",
) -> KubeClient:
    """A client from a kubeconfig file, or from inside a cluster when None. Raises KubeError with the fix.

    `option` is the command line's that names the file.
    """
    if (access := access_of(kubeconfig, context)) is not None:
        access.connection_pool_maxsize = connections
        return KubeClient(access, timeout_s)
    from kubernetes import client, config

    from kerf.kube.commands import bounded_commands

    configuration = client.Configuration()
    try:
        with bounded_commands() as said:
            if kubeconfig:
                config.load_kube_config(kubeconfig, context, client_configuration=configuration)
            else:
                config.load_incluster_config(client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        where = kubeconfig or "this pod's service account"
        raise KubeError(0, "Kubeconfig", f"{where} cannot be used ({error}); pass {option} FILE") from error
    if kubeconfig and not (configuration.api_key or configuration.cert_file or configuration.username):
        _check_command(kubeconfig, command_of(kubeconfig, context), said)
    configuration.connection_pool_maxsize = connections
    return KubeClient(configuration, timeout_s)


def _check_command(kubeconfig: str, command: str, said: Sequence[str]) -> None:
    """The library goes on without a credential where the command of a user fails."""
    if command:
        why = f" ({'; '.join(said)})" if said else ""
        fix = "install it, sign in with it, or use a kubeconfig with a token"
        raise KubeError(0, "Kubeconfig", f"{kubeconfig}: the command {command} gave no credential{why}: {fix}")


def connect_to(kubeconfig: Mapping[str, Any], *, connections: int = 8, timeout_s: float = 10.0) -> KubeClient:
    """A client from a kubeconfig that was read already, one of another cluster. Raises KubeError with the fix."""
    from kubernetes import client, config

    configuration = client.Configuration()
    try:
        config.load_kube_config_from_dict(dict(kubeconfig), client_configuration=configuration)
    except (config.ConfigException, OSError, TypeError, KeyError, ValueError) as error:
        raise KubeError(0, "Kubeconfig", f"the kubeconfig cannot be used ({error}); write a complete one") from error
    configuration.connection_pool_maxsize = connections
    return KubeClient(configuration, timeout_s)


def _library_pool(configuration: Any) -> Any:  # noqa: ANN401
    from kubernetes.client.rest import RESTClientObject

    return RESTClientObject(configuration).pool_manager.connection_from_url(str(configuration.host))


def _decoded(status: int, data: bytes) -> Json:
    if status >= 400:
        raise _error(status, data)
    answer = orjson.loads(data) if data else {}
    return answer if isinstance(answer, dict) else {"items": answer}


def _error(status: int, data: bytes) -> KubeError:
    try:
        answer = orjson.loads(data)
    except orjson.JSONDecodeError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    message = str(answer.get("message") or data[:200].decode(errors="replace"))
    if status == 504 and "too old" in message:
        return Gone(410, "Gone", message)
    if status == 401:
        message += ": the credential is unknown there or has ended; sign in again, or use another kubeconfig"
    return error_of(status, str(answer.get("reason", "")), message)
