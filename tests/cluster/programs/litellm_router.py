"""Runs under LiteLLM's interpreter: loads configurations into its router and sends requests to fake model servers.

Standard input: a list of cases {config, requests, status}: one server for each deployment, each with its status.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from litellm import Router

ANSWER = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "qwen3-8b",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
}  # fmt: skip


class Model(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got += 1
        body = json.dumps(ANSWER if self.server.status == 200 else {"error": {"message": "no"}}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), Model)
        self.status, self.got = status, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


def run(case: dict[str, Any]) -> dict[str, Any]:
    config = case["config"]
    servers = [Server(status) for status in case["status"]]
    for deployment, server in zip(config["model_list"], servers, strict=True):
        deployment["litellm_params"]["api_base"] = f"http://127.0.0.1:{server.server_address[1]}/v1"
    router = Router(model_list=config["model_list"], **config["router_settings"])
    failed, cost = 0, 0.0
    for _ in range(case["requests"]):
        try:
            answer = router.completion(model="qwen3-8b", messages=[{"role": "user", "content": "x"}])
            cost = answer._hidden_params["response_cost"]
        except Exception:  # noqa: BLE001 (whatever the router raises, the request failed)
            failed += 1
    return {
        "got": [server.got for server in servers],
        "failed": failed,
        "cost": cost,
        "deployments": len(router.get_model_list()),
    }


print(json.dumps([run(case) for case in json.load(sys.stdin)]))
