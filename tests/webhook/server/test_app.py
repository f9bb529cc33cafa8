"""The HTTP shell: bounds, clear errors, and a service that goes on after each of them."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_pod
from kerf.wire.admission import Answer, PatchOp, Review
from webhook.server.app import Limits, Service

Client = TestClient[Any, Any]
PATCH = (PatchOp("add", "/spec/schedulerName", "kerf-scheduler"),)


def a_review(pod: dict[str, Any] | None = None, **changes: Any) -> bytes:
    request = {"uid": "u-1", "kind": {"kind": "Pod"}, "operation": "CREATE", "object": pod or a_pod(), **changes}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


def patching(_review: Review) -> Answer:
    return Answer(allowed=True, patch=PATCH)


def with_client(
    scenario: Callable[[Client, Service], Awaitable[None]],
    decide: Callable[[Review], Answer] = patching,
    limits: Limits = Limits(),  # noqa: B008
) -> Metrics:
    """Run a scenario against a served application; its metrics afterwards."""
    metrics = Metrics()

    async def run() -> None:
        service = Service(decide, metrics, limits)
        async with TestClient(TestServer(service.app())) as client:
            await scenario(client, service)
            # whatever happened before, the next review is answered
            if not service.draining:
                assert (await client.post("/mutate", data=a_review())).status == 200

    asyncio.run(run())
    return metrics


def counted(metrics: Metrics) -> dict[str, float]:
    """Requests by outcome, those that were seen; the review that ends every scenario is left out."""
    lines = [line for line in metrics.render().decode().splitlines() if line.startswith("kerf_webhook_requests_total{")]
    found = {line.split('"')[1]: float(line.split()[-1]) for line in lines}
    found["patched"] -= 1
    return {outcome: count for outcome, count in found.items() if count}


def test_a_review_is_answered_with_its_uid_and_patch() -> None:
    async def scenario(client: Client, _service: Service) -> None:
        response = await client.post("/mutate", data=a_review())

        document = await response.json()
        patch = json.loads(base64.b64decode(document["response"].pop("patch")))
        assert (document, patch) == (
            {
                "apiVersion": "admission.k8s.io/v1",
                "kind": "AdmissionReview",
                "response": {"uid": "u-1", "allowed": True, "patchType": "JSONPatch"},
            },
            [{"op": "add", "path": "/spec/schedulerName", "value": "kerf-scheduler"}],
        )

    assert counted(with_client(scenario)) == {"patched": 1}


def test_a_refusal_is_an_answer_not_an_http_error() -> None:
    def refuse_first(review: Review) -> Answer:
        return Answer(allowed=False, message="no", warnings=("w",)) if review.uid == "first" else patching(review)

    async def scenario(client: Client, _service: Service) -> None:
        response = await client.post("/mutate", data=a_review(uid="first"))

        assert (await response.json())["response"] == {
            "uid": "first",
            "allowed": False,
            "status": {"code": 403, "reason": "Forbidden", "message": "no"},
            "warnings": ["w"],
        }

    assert counted(with_client(scenario, refuse_first)) == {"refused": 1}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "body: '': send JSON (Input is a zero-length, empty document: line 1 column 1 (char 0))\n"),
        (b"[" * 100_000, None),
        (b"[1]", "body: '[1]': send a JSON object\n"),
        (b"\xff\xfe", None),
        (
            b'{"apiVersion":"admission.k8s.io/v1beta1"}',
            "apiVersion: 'admission.k8s.io/v1beta1': send admission.k8s.io/v1\n",
        ),
        (b'{"apiVersion":"admission.k8s.io/v1"}', "request: 'None': send a request with a uid\n"),
    ],
    ids=["nothing", "too deep", "not an object", "not UTF-8", "another version", "no request"],
)
def test_a_malformed_review_is_a_clear_400(body: bytes, sentence: str | None) -> None:
    async def scenario(client: Client, _service: Service) -> None:
        response = await client.post("/mutate", data=body)

        text = await response.text()
        assert response.status == 400
        assert sentence in {None, text}
        assert len(text) < 400

    assert counted(with_client(scenario)) == {"malformed": 1}


def test_a_body_over_the_limit_is_a_413_before_it_is_read() -> None:
    async def scenario(client: Client, _service: Service) -> None:
        response = await client.post("/mutate", data=b"x" * 2001)

        assert (response.status, await response.text()) == (413, "the body is larger than 2000 bytes\n")

    assert counted(with_client(scenario, limits=Limits(body_bytes=2000))) == {"too_large": 1}


def test_a_body_that_does_not_tell_its_size_is_cut_off_at_the_limit() -> None:
    async def endless() -> Any:
        for _ in range(100):
            yield b"x" * 100

    async def scenario(client: Client, _service: Service) -> None:
        response = await client.post("/mutate", data=endless())

        assert response.status == 413

    assert counted(with_client(scenario, limits=Limits(body_bytes=2000))) == {"too_large": 1}


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def scenario(client: Client, _service: Service) -> None:
        never = asyncio.Event()

        async def stalled() -> Any:
            yield b"{"
            await never.wait()

        response = await client.post("/mutate", data=stalled())

        assert (response.status, await response.text()) == (408, "the body did not arrive within 0.05 s\n")

    assert counted(with_client(scenario, limits=Limits(seconds=0.05))) == {"timeout": 1}


def test_more_reviews_than_may_be_in_flight_are_asked_to_come_back() -> None:
    async def scenario(client: Client, _service: Service) -> None:
        arrived, go = asyncio.Event(), asyncio.Event()

        async def slow() -> Any:
            yield b" "
            arrived.set()
            await go.wait()
            yield a_review()

        first = asyncio.create_task(client.post("/mutate", data=slow()))
        await arrived.wait()
        second = await client.post("/mutate", data=a_review())
        while second.status == 200:  # the first one's headers may still be on their way
            second = await client.post("/mutate", data=a_review())
        go.set()

        assert (second.status, await second.text()) == (503, "1 requests are in flight; try again")
        assert (await first).status == 200

    assert counted(with_client(scenario, limits=Limits(in_flight=1)))["busy"] == 1


def test_a_defect_in_the_rules_is_a_500_and_no_end() -> None:
    def broken(review: Review) -> Answer:
        if review.uid == "bad":
            raise ZeroDivisionError
        return patching(review)

    async def scenario(client: Client, _service: Service) -> None:
        assert (await client.post("/mutate", data=a_review(uid="bad"))).status == 500

    assert counted(with_client(scenario, broken)) == {"failed": 1}


def test_other_paths_and_methods_are_refused() -> None:
    async def scenario(client: Client, _service: Service) -> None:
        statuses = [(await client.get("/mutate")).status, (await client.post("/healthz")).status]
        statuses.append((await client.get("/other")).status)

        assert statuses == [405, 405, 404]

    with_client(scenario)


def test_while_it_drains_it_answers_is_unready_and_closes_connections() -> None:
    async def scenario(client: Client, service: Service) -> None:
        assert (await client.get("/readyz")).status == 200

        service.draining = True
        ready, healthy = await client.get("/readyz"), await client.get("/healthz")
        review = await client.post("/mutate", data=a_review())

        assert (ready.status, healthy.status, review.status) == (503, 200, 200)
        assert review.headers["Connection"] == "close"

    with_client(scenario)


def test_metrics_are_served_in_prometheus_format() -> None:
    async def scenario(client: Client, _service: Service) -> None:
        await client.post("/mutate", data=a_review())
        text = await (await client.get("/metrics")).text()

        assert 'kerf_webhook_requests_total{outcome="patched"} 1.0' in text
        assert "kerf_webhook_duration_seconds_count 1.0" in text

    with_client(scenario)


def test_nothing_is_answered_before_the_tenants_are_known() -> None:
    metrics = Metrics()
    known: list[bool] = []

    async def run() -> None:
        service = Service(patching, metrics, Limits(), ready=lambda: bool(known))
        async with TestClient(TestServer(service.app())) as client:
            early, probe = await client.post("/mutate", data=a_review()), await client.get("/readyz")
            assert (early.status, await probe.text()) == (503, "the tenants' quota is not read yet: try again\n")
            assert (await client.get("/healthz")).status == 200
            known.append(True)
            assert (await client.post("/mutate", data=a_review())).status == 200
            assert (await client.get("/readyz")).status == 200

    asyncio.run(run())
    assert counted(metrics) == {"unready": 1}
