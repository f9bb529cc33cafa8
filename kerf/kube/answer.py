"""Reads the answers of one HTTP/1.1 connection from bytes as they arrive. Pure: no sockets, no clock."""

from dataclasses import dataclass

from kerf.wire.errors import WireError

LARGEST_HEAD = 1 << 16
LARGEST_CONTENT = 4 << 20
CONTINUE = 100
_BODILESS = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `keeps`: the server takes another request on this connection."""

    status: int
    content: bytes
    keeps: bool


@dataclass(frozen=True, slots=True)
class _Head:
    status: int
    length: int | None
    """None: until the server closes the connection."""
    chunked: bool
    keeps: bool


class AnswerReader:
    """One connection's answers, in order. Raises WireError for bytes that are no HTTP/1.1 answer."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._head: _Head | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing has arrived since the last whole answer."""
        return not self._data and self._head is None

    def feed(self, data: bytes) -> Answer | None:
        """Add what arrived; the next answer once it is whole."""
        self._data += data
        if self._head is None:
            self._head = self._next_head()
        head = self._head
        if head is None:
            return None
        content = self._chunks() if head.chunked else self._content(head.length)
        if len(self._data) > LARGEST_CONTENT:
            raise WireError("answer", len(self._data), f"send at most {LARGEST_CONTENT} bytes")
        return None if content is None else self._whole(head, content)

    def end(self) -> Answer | None:
        """The server has closed the connection: an answer without a length is whole now."""
        head = self._head
        if head is None or head.chunked or head.length is not None:
            return None
        return self._whole(head, bytes(self._data))

    def _whole(self, head: _Head, content: bytes) -> Answer:
        self._head = None
        if head.length is None and not head.chunked:
            self._data.clear()
        return Answer(head.status, content, head.keeps)

    def _next_head(self) -> _Head | None:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            if len(self._data) > LARGEST_HEAD:
                raise WireError("answer's headers", len(self._data), f"send at most {LARGEST_HEAD} bytes")
            return None
        head = _parse_head(bytes(self._data[:end]))
        del self._data[: end + 4]
        return head

    def _content(self, length: int | None) -> bytes | None:
        if length is None or len(self._data) < length:
            return None
        content = bytes(self._data[:length])
        del self._data[:length]
        return content

    def _chunks(self) -> bytes | None:
        """The content of all chunks once the last one and the trailer are there."""
        parts: list[bytes] = []
        at = 0
        while (end := self._data.find(b"\r\n", at)) >= 0:
            size = _number(bytes(self._data[at:end].partition(b";")[0]), 16, "chunk")
            at = end + 2
            if not size:
                return self._after_trailer(at, b"".join(parts))
            parts.append(bytes(self._data[at : at + size]))
            at += size + 2
        return None

    def _after_trailer(self, at: int, content: bytes) -> bytes | None:
        while (end := self._data.find(b"\r\n", at)) >= 0:
            if end == at:
                del self._data[: end + 2]
                return content
            at = end + 2
        return None


def _parse_head(head: bytes) -> _Head:
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1."):
        raise WireError("answer", first[:64].decode("latin-1"), "answer in HTTP/1.1")
    status = _number(words[1], 10, "answer's status")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    tokens = fields.get(b"connection", b"").lower()
    keeps = b"close" not in tokens and (words[0] != b"HTTP/1.0" or b"keep-alive" in tokens)
    if status < 200 or status in _BODILESS:
        return _Head(status, 0, False, keeps)
    if b"chunked" in fields.get(b"transfer-encoding", b"").lower():
        return _Head(status, None, True, keeps)
    length = fields.get(b"content-length")
    if length is None:
        return _Head(status, None, False, False)
    return _Head(status, _number(length, 10, "Content-Length"), False, keeps)


def _number(text: bytes, base: int, what: str) -> int:
    digits = text.strip()
    if not digits.isalnum():
        raise WireError(what, text[:64].decode("latin-1"), "send a number")
    try:
        return int(digits, base)
    except ValueError as error:
        raise WireError(what, text[:64].decode("latin-1"), "send a number") from error
