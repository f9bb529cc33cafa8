"""Structured logs: one JSON object a line on standard error, with whatever looks like a secret taken out."""

import json
import logging
import re
import sys
import time

_SECRETS = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), "<key>"),
    # Base64 of "-----BEGIN ", as in a Secret's data: a key or a certificate, and neither belongs in a log.
    (re.compile(r"LS0tLS1CRUdJTi[A-Za-z0-9+/=\\n]*"), "<pem>"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 <token>"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"), "<token>"),
    (
        re.compile(
            r"""(?i)(["']?(?:access_?token|id_token|password|client_?secret|api_?key)["']?\s*[:=]\s*["']?)[^\s"',;&}]+"""
        ),
        r"\1<secret>",
    ),
)


def redact(text: str) -> str:
    """The text without private keys, bearer tokens and passwords: the last line of defence."""
    for pattern, mark in _SECRETS:
        text = pattern.sub(mark, text)
    return text


class JsonLines(logging.Formatter):
    """Renders a record as one JSON object; `extra={"data": {...}}` becomes its keys."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **(getattr(record, "data", None) or {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(_redacted(line), default=str)


def _redacted(value: object) -> object:
    """Redaction happens before JSON escapes line ends, after objects became text."""
    if isinstance(value, dict):
        return {str(key): _redacted(below) for key, below in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(below) for below in value]
    return value if value is None or isinstance(value, bool | int | float) else redact(str(value))


def start_logging(level: str = "info") -> None:
    """Send everything at `level` and above to standard error. Call once, from a daemon's main."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
