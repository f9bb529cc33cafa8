"""The body of a request or an answer that has to be one JSON object."""

import orjson

from kerf.wire.errors import WireError
from kerf.wire.json import Json


def object_of(body: bytes) -> Json:
    """The object. Raises WireError."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WireError("body", body[:64].decode(errors="replace"), f"send JSON ({error})") from error
    if not isinstance(document, dict):
        raise WireError("body", document, "send a JSON object")
    return document
