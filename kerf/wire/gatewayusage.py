"""A gateway's usage as JSON lines: tokens by key, user and model. Reads the words of LiteLLM, knoway and OpenAI."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kerf.values.engine import Tokens
from kerf.wire.errors import WireError

_KEYS = ("api_key_id", "key_alias", "key", "api_key")
_USERS = ("user_id", "end_user", "user")
_MODELS = ("upstream_model_name", "model", "user_model_name")
_INPUT = ("input_tokens", "prompt_tokens")
_CACHED = ("cached_tokens", "cache_read_input_tokens")
_OUTPUT = ("output_tokens", "completion_tokens")
_MOST = 2**53


@dataclass(frozen=True, slots=True)
class Reported:
    """What a gateway says that one key and user used of one model."""

    key: str
    user: str
    model: str
    tokens: Tokens


def parse_usage_lines(text: str) -> Iterator[Reported]:
    """One report for each line that is not empty. Raises WireError with the line's number."""
    for number, line in enumerate(text.split("\n"), 1):  # splitlines would also cut at signs that JSON allows in texts
        if line.strip():
            yield _report(line, f"line {number}")


def _report(line: str, where: str) -> Reported:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WireError(where, line, "write one JSON object a line") from error
    if not isinstance(found, dict):
        raise WireError(where, line, "write one JSON object a line")
    usage = found.get("usage")
    counts = {**found, **usage} if isinstance(usage, dict) else found
    model = _text(found, _MODELS)
    if not model:
        raise WireError(f"{where}.model", found.get("model"), "name the model as the engine serves it")
    whole, cached = _count(counts, _INPUT, where), _count(counts, _CACHED, where)
    tokens = Tokens(max(whole - cached, 0), min(cached, whole), _count(counts, _OUTPUT, where))
    return Reported(_text(found, _KEYS), _text(found, _USERS), model, tokens)


def _text(found: Mapping[str, object], names: tuple[str, ...]) -> str:
    return next((value for name in names if isinstance(value := found.get(name), str) and value), "")


def _count(found: Mapping[str, object], names: tuple[str, ...], where: str) -> int:
    for name in names:
        value = found.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
            raise WireError(f"{where}.{name}", value, "write a whole number of tokens")
        return value
    return 0
