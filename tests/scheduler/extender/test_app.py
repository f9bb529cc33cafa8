"""The HTTP service: bad input gets one clear error, and the service goes on."""

import asyncio
import io
import json

from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from scheduler.extender.app import LARGEST_BODY, Extender
from scheduler.extender.bind import Binder
from scheduler.extender.verbs import Verbs
from scheduler.metrics import SchedulerMetrics
from scheduler.state.store import Store, load
from tests.kerf.http.serving import Client, serving


def serve(check, *, ready: bool = True) -> None:
    async def run() -> None:
        store = Store(SchedulingPolicy(), VENDORS)
        load(store, [a_node("a")], [a_pod()])
        registry = Metrics()
        metrics = SchedulerMetrics.build(registry)
        binder = Binder(store, FakeKube(a_node("a"), a_pod()), metrics)
        extender = Extender(Verbs(store.desk, metrics), binder, metrics, lambda: ready, registry.render)
        async with serving(extender.server()) as client:
            await check(client)

    asyncio.run(run())


def test_malformed_json_is_a_400_that_says_so_and_the_next_call_works():
    async def check(client: Client) -> None:
        bad = await client.post("/filter", data=b"{nope")
        assert bad.status == 400
        assert "send JSON" in (await bad.json())["Error"]
        good = await client.post("/filter", json={"Pod": a_pod(), "NodeNames": ["a"]})
        assert (await good.json())["NodeNames"] == ["a"]

    serve(check)


def test_a_body_larger_than_the_limit_is_a_413():
    async def check(client: Client) -> None:
        answer = await client.post("/filter", data=io.BytesIO(b" " * (LARGEST_BODY + 1)))
        assert answer.status == 413

    serve(check)


def test_before_the_first_list_nothing_is_decided():
    async def check(client: Client) -> None:
        assert (await client.get("/readyz")).status == 503
        assert (await client.get("/healthz")).status == 200
        assert (await client.post("/filter", json={"Pod": a_pod(), "NodeNames": ["a"]})).status == 503

    serve(check, ready=False)


def test_bind_over_http_binds_and_metrics_count_it():
    async def check(client: Client) -> None:
        query = {"PodNamespace": "default", "PodName": "pod-1", "PodUID": "uid-default-pod-1", "Node": "a"}
        assert await (await client.post("/bind", json=query)).json() == {"Error": ""}
        text = await (await client.get("/metrics")).text()
        assert 'kerf_scheduler_binds_total{outcome="bound"} 1.0' in text
        assert "kerf_scheduler_request_seconds_bucket" in text

    serve(check)


def test_a_bind_query_without_a_node_names_the_field():
    async def check(client: Client) -> None:
        answer = await client.post("/bind", data=json.dumps({"PodNamespace": "d", "PodName": "p", "PodUID": "u"}))
        assert answer.status == 400
        assert "Node" in (await answer.json())["Error"]

    serve(check)
