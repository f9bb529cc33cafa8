#!/usr/bin/env bash
# Package: litellm 1.110.2 (with openai 3.57.0), its Router with the default `simple-shuffle`.
# Behaviour: one would expect a retry to go to another replica than the one that has just failed, and a replica that
# fails more than `allowed_fails` times to get nothing for `cooldown_time`, however many replicas its model has. (1) A
# retry picks among all replicas again, the failed one included: with one retry and two replicas, of which one answers
# 500, a quarter of the requests fail. (2) A model's only replica never cools down: of 20 requests it gets all 20. Two
# replicas that both fail get two requests each, and the other 16 reach no server.
# Output seen on 2026-11-27:
#   one retry, one of two replicas answers 500: 16 of 60 requests failed   (here: from 5 to 27, the choice is random)
#   the only replica answers 500: it got 20 of 20 requests
#   both replicas answer 500: they got 2 and 2 of 20 requests
# The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'litellm==1.110.2' 'openai==3.57.0'
cat > "$folder/router.py" <<'PYTHON'
import asyncio
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import litellm

litellm.suppress_debug_info = True
logging.disable(logging.CRITICAL)
MESSAGE = {"role": "assistant", "content": "hello"}
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": MESSAGE}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


class Replica(ThreadingHTTPServer):
    """A model server that always answers with one status."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.status, self.got = status, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answers(BaseHTTPRequestHandler):
    server: Replica

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.got += 1
        body = json.dumps(ANSWER if self.server.status == 200 else {"error": {"message": "broken"}}).encode()
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def a_router(*replicas: Replica, **settings: object) -> litellm.Router:
    urls = [f"http://127.0.0.1:{replica.server_port}/v1" for replica in replicas]
    params = [{"model": "openai/m", "api_base": url, "api_key": "k", "max_retries": 0} for url in urls]
    return litellm.Router(model_list=[{"model_name": "m", "litellm_params": each} for each in params], **settings)


async def failures(router: litellm.Router, requests: int) -> int:
    failed = 0
    for _ in range(requests):
        try:
            await router.acompletion(model="m", messages=[{"role": "user", "content": "hi"}])
        except Exception:
            failed += 1
    return failed


async def main() -> None:
    bad, good = Replica(500), Replica(200)
    failed = await failures(a_router(bad, good, num_retries=1, retry_after=0, disable_cooldowns=True), 60)
    print(f"one retry, one of two replicas answers 500: {failed} of 60 requests failed")
    assert 5 <= failed <= 27, failed

    cooling = {"num_retries": 0, "allowed_fails": 1, "cooldown_time": 60}
    only = Replica(500)
    assert await failures(a_router(only, **cooling), 20) == 20
    print(f"the only replica answers 500: it got {only.got} of 20 requests")
    assert only.got == 20, only.got

    both = Replica(500), Replica(500)
    assert await failures(a_router(*both, **cooling), 20) == 20
    print(f"both replicas answer 500: they got {both[0].got} and {both[1].got} of 20 requests")
    assert (both[0].got, both[1].got) == (2, 2), (both[0].got, both[1].got)


asyncio.run(main())
PYTHON
LITELLM_LOCAL_MODEL_COST_MAP=True "$folder/venv/bin/python" "$folder/router.py"
