"""Structured logs: one JSON object a line on standard error."""

import json
import logging
import sys
import time


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
        return json.dumps(line, default=str)


def start_logging(level: str = "info") -> None:
    """Send everything at `level` and above to standard error. Call once, from a daemon's main."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
