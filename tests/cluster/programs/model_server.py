"""Plays `vllm serve FOLDER --served-model-name NAME --port N …`: loads what is there, then answers as an engine does.

A name that ends with `broken` exits, one that ends with `silent` is never ready.
"""

import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ARGS = sys.argv[1:]
NAME = ARGS[ARGS.index("--served-model-name") + 1]
FILES = sorted(Path(ARGS[1]).glob("*.safetensors"))
DIGEST = hashlib.sha256(b"".join(path.read_bytes() for path in FILES)).hexdigest()[:12]


class Server(BaseHTTPRequestHandler):
    """The paths that probes and clients ask for."""

    def do_GET(self) -> None:
        """Health and the list of models."""
        if self.path == "/health":
            self.send(503 if NAME.endswith("silent") else 200, {})
        elif self.path == "/v1/models":
            self.send(200, {"data": [{"id": NAME}]})
        else:
            self.send(404, {})

    def do_POST(self) -> None:
        """A completion that shows which weights were loaded."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.path == "/v1/completions" and asked["model"] == NAME
        text = f" Paris, by {len(FILES)} files with {DIGEST}"
        self.send(200 if known else 404, {"choices": [{"text": text}]} if known else {})

    def send(self, status: int, body: dict[str, object]) -> None:
        """One answer."""
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if NAME.endswith("broken"):
    sys.exit(3)
ThreadingHTTPServer(("", int(ARGS[ARGS.index("--port") + 1])), Server).serve_forever()
