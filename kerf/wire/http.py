"""HTTP/1.1 messages from bytes as they arrive: requests for Kerf's servers, answers for its clients.

Strict where messages could be read in two ways (two lengths, folded headers, odd numbers), and bounded everywhere. A
message has a Content-Length, comes in chunks, or (an answer only) ends with its connection.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus

from kerf.values.days import civil, days_of
from kerf.wire.errors import WireError

LARGEST_HEAD = 1 << 16
LARGEST_ANSWER = 32 << 20
CONTINUE = 100
FIRST_YEAR = 1970
_DATE = re.compile(r"[A-Z][a-z]{2}, (\d{2}) ([A-Z][a-z]{2}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT", re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_BODILESS = frozenset({204, 304})
_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LONGEST_NUMBER = 16
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class TooLargeError(WireError):
    """The message's content is larger than its reader takes."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's first line and headers. Names of headers are in lower case."""

    method: str
    path: str
    """Without the query."""
    headers: dict[str, str]
    length: int | None
    """Of the content; None where it comes in chunks."""
    keeps: bool
    """The client may send another request on this connection."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `keeps`: the server takes another request on this connection."""

    status: int
    content: bytes
    keeps: bool


def parse_date(text: str) -> int | None:
    """Milliseconds since 1970 of a Date header, as servers write it today; None for what is none."""
    found = _DATE.fullmatch(text)
    if found is None or found[2] not in _MONTHS:
        return None
    day, month, year, hours, minutes, seconds = (
        int(found[1]),
        _MONTHS.index(found[2]) + 1,
        *map(int, found.groups()[2:]),
    )
    days = days_of(year, month, day) if year >= FIRST_YEAR else -1
    if civil(days) != (year, month, day) or hours > 23 or minutes > 59 or seconds > 60:
        return None
    return (days * 86_400 + hours * 3600 + minutes * 60 + seconds) * 1000


def render_head(status: int, headers: tuple[tuple[str, str], ...], length: int | None) -> bytes:
    """An answer's first line and headers. Without a length the content ends with the connection."""
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Status')}", *(f"{name}: {value}" for name, value in headers)]
    lines += [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1")


class RequestReader:
    """One connection's requests, in order: feed it, ask for the head, then for the content. Raises WireError."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._data = bytearray()
        self._head: RequestHead | None = None
        self._content: _Sized | _Chunked | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing of a next request has arrived."""
        return not self._data and self._head is None

    def feed(self, data: bytes) -> None:
        """Add what arrived."""
        if isinstance(self._content, _Sized):
            self._content.feed(data)
        else:
            self._data += data

    def head(self) -> RequestHead | None:
        """The next request's head once it is whole; the same until its content was read."""
        if self._head is None and (lines := _take_head(self._data)):
            self._head = _parse_request(lines)
            length = self._head.length
            if length is not None and length > self._largest:
                raise TooLargeError("Content-Length", length, f"send at most {self._largest} bytes")
            self._content = _Chunked(self._largest) if length is None else _Sized(length)
            if isinstance(self._content, _Sized):
                self._content.feed(bytes(self._data))
                self._data.clear()
        return self._head

    def content(self) -> bytes | None:
        """The content once it is whole; what follows is the next request."""
        if self._content is None:
            return None
        if isinstance(self._content, _Sized):
            found = self._content.whole()
            if found is None:
                return None
            self._data += self._content.rest
        else:
            found = self._content.read(self._data)
        if found is not None:
            self._head = self._content = None
        return found


class AnswerReader:
    """One connection's answers, in order. Raises WireError for bytes that are no HTTP/1.1 answer."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._head: _AnswerHead | None = None
        self._chunked = _Chunked(LARGEST_ANSWER)

    @property
    def idle(self) -> bool:
        """Whether nothing has arrived since the last whole answer."""
        return not self._data and self._head is None

    def feed(self, data: bytes) -> Answer | None:
        """Add what arrived; the next answer once it is whole."""
        self._data += data
        if self._head is None and (lines := _take_head(self._data)):
            self._head = _parse_answer(lines)
            self._chunked = _Chunked(LARGEST_ANSWER)
        head = self._head
        if head is None:
            return None
        content = self._chunked.read(self._data) if head.chunked else self._sized(head.length)
        if content is None:
            if len(self._data) > LARGEST_ANSWER:
                raise TooLargeError("answer", len(self._data), f"send at most {LARGEST_ANSWER} bytes")
            return None
        self._head = None
        return Answer(head.status, content, head.keeps)

    def end(self) -> Answer | None:
        """The server has closed the connection: an answer without a length is whole now."""
        head = self._head
        if head is None or head.chunked or head.length is not None:
            return None
        content, self._head = bytes(self._data), None
        self._data.clear()
        return Answer(head.status, content, False)

    def _sized(self, length: int | None) -> bytes | None:
        if length is None or len(self._data) < length:
            return None
        content = bytes(self._data[:length])
        del self._data[:length]
        return content


@dataclass(frozen=True, slots=True)
class _AnswerHead:
    status: int
    length: int | None
    """None: in chunks, or until the server closes the connection."""
    chunked: bool
    keeps: bool


class _Sized:
    """Content of a known length, joined once."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._parts: list[bytes] = []
        self._have = 0
        self.rest = b""

    def feed(self, data: bytes) -> None:
        self._parts.append(data)
        self._have += len(data)

    def whole(self) -> bytes | None:
        if self._have < self._length:
            return None
        found = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if self._have > self._length:
            found, self.rest = found[: self._length], found[self._length :]
        return found


class _Chunked:
    """Content in chunks, each read once."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._parts: list[bytes] = []
        self._have = 0
        self._left = -1
        """Bytes of the chunk that is read; -1 before its size, 0 in the trailer."""

    def read(self, data: bytearray) -> bytes | None:
        """Take whole chunks out of the data; the content once the last one and the trailer are there."""
        at = 0
        while True:
            if self._left > 0:
                end = at + self._left
                if len(data) < end + 2:
                    break
                if data[end : end + 2] != b"\r\n":
                    raise WireError("chunk", bytes(data[end : end + 2]).decode("latin-1"), "end a chunk with CRLF")
                self._parts.append(bytes(data[at:end]))
                self._left, at = -1, end + 2
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                if len(data) - at > LARGEST_HEAD:
                    raise WireError("chunk", len(data) - at, f"write at most {LARGEST_HEAD} bytes a line")
                break
            line, at = bytes(data[at:end]), end + 2
            if self._left == 0 and not line:
                del data[:at]
                return b"".join(self._parts)
            if self._left < 0:
                self._left = _number(line.partition(b";")[0], 16, "chunk")
                self._have += self._left
                if self._have > self._largest:
                    raise TooLargeError("chunks", self._have, f"send at most {self._largest} bytes")
        del data[:at]
        return None


def _take_head(data: bytearray) -> list[bytes] | None:
    """The lines of a head, taken out of the data once they are all there."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > LARGEST_HEAD:
            raise WireError("headers", len(data), f"send at most {LARGEST_HEAD} bytes")
        return None
    lines = bytes(data[:end]).split(b"\r\n")
    del data[: end + 4]
    return lines


def _parse_request(lines: list[bytes]) -> RequestHead:
    words = lines[0].split(b" ")
    if len(words) != 3 or words[2] not in {b"HTTP/1.1", b"HTTP/1.0"} or not words[1].startswith(b"/"):
        raise WireError("request", lines[0][:64].decode("latin-1"), "write METHOD /path HTTP/1.1")
    headers = _headers(lines[1:])
    length, chunked = _framing(headers)
    tokens = headers.get("connection", "").lower()
    return RequestHead(
        method=words[0].decode("latin-1"),
        path=words[1].partition(b"?")[0].decode("latin-1"),
        headers=headers,
        length=None if chunked else length or 0,
        keeps=_keeps(words[2], tokens),
    )


def _parse_answer(lines: list[bytes]) -> _AnswerHead:
    words = lines[0].split(b" ", 2)
    if len(words) < 2 or words[0] not in {b"HTTP/1.1", b"HTTP/1.0"}:
        raise WireError("answer", lines[0][:64].decode("latin-1"), "answer in HTTP/1.1")
    status = _number(words[1], 10, "answer's status")
    headers = _headers(lines[1:])
    keeps = _keeps(words[0], headers.get("connection", "").lower())
    if status < 200 or status in _BODILESS:
        return _AnswerHead(status, 0, False, keeps)
    length, chunked = _framing(headers)
    return _AnswerHead(status, length, chunked, keeps and (chunked or length is not None))


def _keeps(version: bytes, tokens: str) -> bool:
    return "close" not in tokens and (version == b"HTTP/1.1" or "keep-alive" in tokens)


def _headers(lines: list[bytes]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, _TOKEN):
            raise WireError("header", line[:64].decode("latin-1"), "write Name: value")
        key = name.decode("latin-1").lower()
        text = value.strip(b" \t").decode("latin-1")
        if key in found:
            if key in {"content-length", "transfer-encoding"}:
                raise WireError(key, text[:64], "send it once")
            text = f"{found[key]}, {text}"
        found[key] = text
    return found


def _framing(headers: dict[str, str]) -> tuple[int | None, bool]:
    """The content's length, and whether it comes in chunks."""
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is None:
        return (None if length is None else _number(length.encode("latin-1"), 10, "Content-Length")), False
    if coding.lower() != "chunked":
        raise WireError("Transfer-Encoding", coding[:64], "use chunked, or a Content-Length")
    if length is not None:
        raise WireError("Content-Length", length[:64], "send no length beside Transfer-Encoding")
    return None, True


def _number(text: bytes, base: int, what: str) -> int:
    digits = text.strip(b" \t")
    if digits.isalnum() and len(digits) <= _LONGEST_NUMBER:
        try:
            return int(digits, base)
        except ValueError:
            pass
    raise WireError(what, text[:64].decode("latin-1"), "send a number")
