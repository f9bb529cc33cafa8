"""Lists of the API server, read object by object.

A page of 500 pods is some megabytes of text and ten times as much once it is decoded: more than a processor's cache
has, so that every look at an object would wait for memory. An object that is let go before the next stays in the cache.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from kerf.wire.json import Json

_BEGIN, _FIRST, _BETWEEN, _END = b'"items":[', b'{"metadata":', b'},{"metadata":', b"]}"
"""As the API server writes lists of its own kinds. Other lists are decoded whole."""


def parse_list(data: bytes) -> tuple[Json, Iterable[dict[str, Any]]]:
    """A list without its items, and these, each decoded when it is asked for. Raises ValueError, then or now.

    No text within JSON has these signs, for a quotation mark within a text is escaped. So the list may only be cut too
    often, where objects within an item are listed in the same way, and then a piece is no JSON.
    """
    begin, end = data.find(_BEGIN) + len(_BEGIN), data.rfind(_END)
    if data.startswith(_FIRST, begin) and end > begin and not data[end + len(_END) :].strip():
        try:
            around = orjson.loads(data[:begin] + _END)
        except orjson.JSONDecodeError:
            return _whole(data)
        if "metadata" in around:  # else it follows the items
            return around, _items(data, begin, end)
    return _whole(data)


def _whole(data: bytes) -> tuple[Json, Iterable[dict[str, Any]]]:
    answer = orjson.loads(data) if data else {}
    return (answer, answer.get("items") or ()) if isinstance(answer, dict) else ({}, answer)


def _items(data: bytes, start: int, end: int) -> Iterator[dict[str, Any]]:
    view, count = memoryview(data), 0
    while start < end:
        cut = data.find(_BETWEEN, start, end)
        stop = end if cut < 0 else cut + 1
        try:
            item = orjson.loads(view[start:stop])
        except orjson.JSONDecodeError:
            break
        yield item
        count += 1
        start = stop + 1
    else:
        return
    yield from [*_whole(data)[1]][count:]
