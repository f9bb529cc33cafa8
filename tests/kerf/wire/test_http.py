"""HTTP/1.1 requests and answers from bytes, however the network cuts them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.wire.errors import WireError
from kerf.wire.http import LARGEST_ANSWER, LARGEST_HEAD, Answer, AnswerReader, RequestHead, RequestReader, parse_date

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CREATED = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\ncontent-length: 5\r\n\r\n{   }"
CHUNKED = (
    b"HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n"
)
CLOSING = b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
STREAM = CONTINUE + CREATED + CHUNKED + NO_CONTENT + CLOSING
ANSWERS = [
    Answer(100, b"", True),
    Answer(201, b"{   }", True),
    Answer(409, b"abc0123456789", True),
    Answer(204, b"", True),
    Answer(429, b"", False),
]


def read(pieces: list[bytes]) -> list[Answer]:
    reader, found = AnswerReader(), []
    for piece in pieces:
        answer = reader.feed(piece)
        while answer is not None:
            found.append(answer)
            answer = reader.feed(b"")
    assert reader.idle
    return found


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_answers_are_the_same_however_they_are_cut(cuts):
    places = [0, *sorted(cuts), len(STREAM)]

    assert read([STREAM[a:b] for a, b in pairwise(places)]) == ANSWERS


def test_an_answer_without_a_length_ends_with_the_connection_and_the_connection_is_not_kept():
    reader = AnswerReader()

    assert reader.feed(b"HTTP/1.1 200 OK\r\n\r\nhalf") is None
    assert reader.feed(b" and half") is None
    assert reader.end() == Answer(200, b"half and half", False)


def test_a_connection_that_ends_within_an_answer_gives_none():
    reader = AnswerReader()
    reader.feed(CREATED[:-1])

    assert reader.end() is None


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "answer"),
        (b"HTTP/1.1 abc\r\n\r\n", "answer's status"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk"),
        (b"x" * (LARGEST_HEAD + 1), "headers"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (LARGEST_ANSWER + 1), "answer"),
    ],
)
def test_what_is_no_answer_is_refused_with_the_field(data, field):
    with pytest.raises(WireError) as raised:
        AnswerReader().feed(data)

    assert raised.value.field == field


REQUESTS = (
    b"POST /filter?x=1 HTTP/1.1\r\nHost: k\r\ncontent-length: 3\r\nX-A: 1\r\nX-A: 2\r\n\r\nabc"
    b"GET /healthz HTTP/1.0\r\n\r\n"
    b"POST /bind HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;e=1\r\n0123456789\r\n0\r\nT: t\r\n\r\n"
    b"POST /preempt HTTP/1.1\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n"
)
READ = [
    ("POST", "/filter", {"host": "k", "content-length": "3", "x-a": "1, 2"}, True, b"abc"),
    ("GET", "/healthz", {}, False, b""),
    ("POST", "/bind", {"transfer-encoding": "chunked"}, True, b"abc0123456789"),
    ("POST", "/preempt", {"content-length": "0", "connection": "Close"}, False, b""),
]


@given(st.lists(st.integers(0, len(REQUESTS)), max_size=12))
def test_requests_are_the_same_however_they_are_cut(cuts):
    places = [0, *sorted(cuts), len(REQUESTS)]
    reader, found = RequestReader(1000), []
    for a, b in pairwise(places):
        reader.feed(REQUESTS[a:b])
        while (head := reader.head()) is not None and (content := reader.content()) is not None:
            found.append((head.method, head.path, head.headers, head.keeps, content))

    assert found == READ
    assert reader.idle


def test_a_head_is_known_before_its_content():
    reader = RequestReader(1000)
    reader.feed(REQUESTS[: REQUESTS.index(b"abc")])

    assert reader.head() == RequestHead("POST", "/filter", READ[0][2], 3, True)
    assert reader.content() is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Sat, 28 Nov 2026 08:52:01 GMT", 1_795_855_921_000),
        ("Tue, 29 Feb 2028 00:00:00 GMT", 1_835_395_200_000),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Mon, 29 Feb 2027 00:00:00 GMT", None),
        ("Sat, 28 Nov 1926 08:52:01 GMT", None),
        ("Sat, 28 Xyz 2026 08:52:01 GMT", None),
        ("Sat, 28 Nov 2026 25:52:01 GMT", None),
        ("2026-11-28T08:52:01Z", None),
        ("", None),
    ],
)
def test_a_date_header_is_a_moment(text: str, moment: int | None):
    assert parse_date(text) == moment
