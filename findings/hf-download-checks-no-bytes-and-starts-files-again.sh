#!/usr/bin/env bash
# Package: huggingface_hub 2.4.0, its command `hf`, over plain HTTP (HF_HUB_DISABLE_XET=1) from a hub on loopback.
# Behaviour: one would expect a downloader of models that knows each file's SHA-256 to compare it, and one that keeps
# `.incomplete` files to go on with them. (1) A safetensors file of the right length with one wrong byte is "Downloaded",
# exit status 0, and a second `hf download` finds nothing to do; only `hf cache verify` compares checksums and fails.
# (2) If `hf download` is killed in the middle of a file, the next run asks for that file from its first byte on and
# leaves the old `.incomplete` file behind, because each run gives it a random name.
# Output seen on 2026-11-27: see the last lines. The script fails if it changes.
set -euo pipefail
folder=$(mktemp -d)
server=
stop() { if [ -n "$server" ]; then kill "$server" 2> /dev/null || true; wait "$server" 2> /dev/null || true; fi; }
trap 'stop; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'huggingface_hub==2.4.0'
cat > "$folder/hub.py" <<'PYTHON'
"""A hub with one model. argv: wrong (one byte of the weights differs) or slow (the weights take four seconds)."""
import hashlib
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WEIGHTS = bytes(range(256)) * 4096
FILES = {"config.json": b"{}\n", "model.safetensors": WEIGHTS}
COMMIT = "0" * 40


def git_id(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        if self.command == "GET" and self.path.endswith(".safetensors"):
            print("asked for the weights,", self.headers.get("Range") or "from the first byte on", flush=True)

    def do_HEAD(self) -> None:
        self.respond(with_body=False)

    def do_GET(self) -> None:
        self.respond(with_body=True)

    def respond(self, with_body: bool) -> None:
        name = self.path.split("?")[0].rsplit("/", 1)[1]
        if "/tree/" in self.path:
            self.send(json.dumps([self.entry(*item) for item in FILES.items()]).encode(), with_body)
        elif name in FILES:
            self.file(name, FILES[name], with_body)
        elif self.path.startswith("/api/models/"):
            siblings = [{"rfilename": each} for each in FILES]
            self.send(json.dumps({"id": "a/model", "sha": COMMIT, "siblings": siblings}).encode(), with_body)
        else:
            self.send(b"", with_body, status=404)

    def entry(self, name: str, body: bytes) -> dict[str, object]:
        found = {"type": "file", "path": name, "size": len(body), "oid": git_id(body)}
        lfs = {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 130}
        return {**found, "lfs": lfs} if name.endswith("safetensors") else found

    def file(self, name: str, body: bytes, with_body: bool) -> None:
        large = name.endswith("safetensors")
        tag = hashlib.sha256(body).hexdigest() if large else git_id(body)
        if large and sys.argv[1] == "wrong":
            body = body[:1000] + b"\xff" + body[1001:]
        self.send(body, with_body, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}, large and sys.argv[1] == "slow")

    def send(self, body: bytes, with_body: bool, headers: dict[str, str] = {}, slow: bool = False, status: int = 200) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body)), "Accept-Ranges": "bytes"}.items():
            self.send_header(key, value)
        self.end_headers()
        for start in range(0, len(body) if with_body else 0, 2**17):
            self.wfile.write(body[start : start + 2**17])
            self.wfile.flush()
            time.sleep(0.5 if slow else 0)


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
print(server.server_address[1], flush=True)
server.serve_forever()
PYTHON
export HF_HOME="$folder/home" HF_HUB_DISABLE_XET=1 HF_HUB_DISABLE_PROGRESS_BARS=1 PATH="$folder/venv/bin:$PATH"
serve() {
    stop
    asked="$folder/asked-$1"
    python3 "$folder/hub.py" "$1" > "$asked" 2>/dev/null & server=$!
    until [ -s "$asked" ]; do sleep 0.1; done
    HF_ENDPOINT="http://127.0.0.1:$(head -n 1 "$asked")"
    export HF_ENDPOINT
}
try() { if "$@" > /dev/null 2>&1; then echo 0; else echo "not 0"; fi; }
{
    serve wrong
    echo "wrong byte: download ends with $(try hf download a/model --local-dir "$folder/one")"
    echo "again: download ends with $(try hf download a/model --local-dir "$folder/one")"
    echo "hf cache verify ends with $(try hf cache verify a/model --local-dir "$folder/one")"
    tail -n +2 "$asked"
    serve slow
    hf download a/model --local-dir "$folder/two" > /dev/null 2>&1 & download=$!
    until [ "$(wc -l < "$asked")" -ge 2 ]; do sleep 0.1; done
    sleep 1
    kill -9 "$download"
    wait "$download" 2>/dev/null || true
    echo "killed in the middle; again: download ends with $(try hf download a/model --local-dir "$folder/two")"
    tail -n +2 "$asked"
    echo "left behind: $(find "$folder/two" -name '*.incomplete' | wc -l) .incomplete"
} > "$folder/seen" 2> /dev/null
cat "$folder/seen"
diff "$folder/seen" - <<'TEXT'
wrong byte: download ends with 0
again: download ends with 0
hf cache verify ends with not 0
asked for the weights, from the first byte on
killed in the middle; again: download ends with 0
asked for the weights, from the first byte on
asked for the weights, from the first byte on
left behind: 1 .incomplete
TEXT
echo "as on 2026-11-27"
