"""The line to the scheduler: questions over HTTP, of whose replicas any may answer."""

import ssl
from collections.abc import Callable
from http import HTTPStatus

from kerf.http.poster import Poster

_HEADERS = {"Content-Type": "application/json"}


class Line:
    """Lives on the event loop of the server. Its connections are made again when the certificate changes."""

    def __init__(self, host: str, port: int, tls: Callable[[], ssl.SSLContext] | None = None) -> None:
        self._scheduler = (host, port)
        self._tls = tls
        self._poster: Poster | None = None
        self._by: ssl.SSLContext | None = None
        """What the poster's connections were made with."""

    async def ask(self, path: str, body: bytes, seconds: float) -> bytes:
        """The answer's body. Raises PostError, ValueError for any other status than 200."""
        tls = self._tls() if self._tls else None
        if self._poster is None or tls is not self._by:
            if self._poster is not None:
                self._poster.close()
            self._poster, self._by = Poster(*self._scheduler, tls), tls
        answer = await self._poster.post(path, _HEADERS, body, seconds)
        if answer.status != HTTPStatus.OK:
            raise ValueError(f"status {answer.status}: {answer.content[:500].decode(errors='replace').strip()}")
        return answer.content
