"""The page's listener over real HTTP: who gets in, what they get, and what is refused."""

from collections.abc import Iterator
from typing import Any

import pytest

from kerf.http.server import Request
from kerf.kube.errors import Unreachable
from kerf.wire.http import RequestHead
from kerf.wire.reviews import User
from kerf.wire.sessions import Session, render_session
from scheduler.page import listener
from scheduler.page.guard import SESSION_S, SKEW_S, session_of
from scheduler.page.what_if import MOST_LINES
from tests.browser.world import NAMESPACES, Served, holder, served
from tests.scheduler.page.page_world import HEADERS, Browser, applied, picture_of


@pytest.fixture(scope="module")
def page() -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listener, "WHAT_IFS", (100.0, 100.0))  # these tests share a page
        patch.setattr(listener, "SIGN_INS", (100.0, 100.0))
        with served(10, 60, waiting=5) as one:
            yield one


def signed_in(page: Served, token: str) -> Browser:
    browser = Browser(page)
    assert browser.sign_in(token) == 200
    return browser


def test_every_answer_keeps_the_page_to_itself(page: Served):
    for path in ("/", "/main.js", "/page.css", "/api/session"):
        headers = Browser(page).ask("GET", path)[2]
        policy = headers["Content-Security-Policy"]
        assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy


def test_a_file_that_the_browser_has_is_not_sent_again(page: Served):
    tag = Browser(page).ask("GET", "/main.js")[2]["ETag"]

    assert Browser(page).ask("GET", "/main.js", None, **{"If-None-Match": tag})[:2] == (304, "")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/events"), ("GET", "/api/session"), ("POST", "/api/history"), ("POST", "/api/what-if")],
)
def test_somebody_who_has_not_signed_in_gets_nothing(page: Served, method: str, path: str):
    for cookie in ("", "kerf-page=x.y.z", "kerf-page=é", "kerf-page", "; =;"):
        headers = {"kerf-page": "1", **({"Cookie": cookie.encode().decode("latin-1")} if cookie else {})}
        assert Browser(page).ask(method, path, {} if method == "POST" else None, **headers)[0] == 401


def test_a_token_becomes_a_cookie_that_no_script_reads_and_no_other_site_sends(page: Served):
    browser = Browser(page)
    status, content, headers = browser.ask("POST", "/api/sign-in", {"token": " ada-token\n"}, **{"kerf-page": "1"})

    assert (status, content["user"]) == (200, "ada")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(headers["Set-Cookie"].split("; "))
    assert "ada-token" not in headers["Set-Cookie"]
    assert browser.ask("GET", "/api/session")[1]["user"] == "ada"
    assert browser.post("/api/sign-out", {})[0] == 200
    assert browser.ask("GET", "/api/session")[0] == 401


def test_odd_cookies_of_other_programs_on_this_machine_sign_nobody_out(page: Served):
    browser = signed_in(page, "ada-token")
    browser.cookie = f'a[b]=1; odd={{"x": 1, "y": 2}}; =; {browser.cookie}; last'

    assert browser.ask("GET", "/api/session")[1]["user"] == "ada"


def test_a_cookie_for_another_host_than_this_machine_needs_https(page: Served):
    headers = Browser(page).ask(
        "POST", "/api/sign-in", {"token": "ada-token"}, **{"kerf-page": "1", "Host": "kerf.example"}
    )[2]

    assert headers["Set-Cookie"].startswith("__Host-kerf-page=")
    assert headers["Set-Cookie"].endswith("; Secure")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"token": "unknown"}, 401, "does not know this token"),
        ({"token": ""}, 400, "token: '': give a Kubernetes token"),
        ([], 400, "give a Kubernetes token"),
        ({"token": "x" * 200_000}, 413, "send at most"),
    ],
)
def test_what_is_no_token_gets_one_clear_error(page: Served, body: Any, status: int, words: str):
    found, text = Browser(page).post("/api/sign-in", body)

    assert found == status
    assert words in text


def test_nobody_gets_in_while_the_api_server_does_not_answer(page: Served):
    def fails(method: str, path: str) -> None:
        raise Unreachable("no route")

    page.kube.fail = fails
    try:
        assert Browser(page).sign_in("ada-token") == 502
    finally:
        page.kube.fail = lambda method, path: None


@pytest.mark.parametrize(
    "headers",
    [
        {"kerf-page": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
    ],
)
def test_what_another_site_can_make_a_browser_send_is_refused(page: Served, headers: dict[str, str]):
    sent = {"kerf-page": "1", **headers}
    if not sent["kerf-page"]:
        del sent["kerf-page"]

    assert Browser(page).ask("POST", "/api/sign-in", {"token": "ada-token"}, **sent)[0] == 403


def test_who_may_list_everything_sees_the_whole_fleet(page: Served):
    with signed_in(page, "admin-token").events() as events:
        seen = picture_of(events)

    assert len(seen["nodes"]) == 10
    assert {row["ns"] for row in seen["waiting"].values()} == set(NAMESPACES)
    assert all(row["why"] and row["fix"] for row in seen["waiting"].values())
    assert set(seen["tenants"]) == {f"{name}-tenant" for name in NAMESPACES[:3]}
    assert set(seen["costs"]) > {"all"}


def test_who_may_list_one_namespace_sees_no_name_of_another(page: Served):
    with signed_in(page, "ada-token").events() as events:
        seen = picture_of(events)

    assert {row["ns"] for row in seen["waiting"].values()} == {"team-ada"}
    assert set(seen["tenants"]) == {"team-ada-tenant"}
    assert [name for name in NAMESPACES[1:] if name in str(seen)] == []
    assert "all" not in seen["costs"]


def test_a_token_without_rights_sees_nothing(page: Served):
    browser = signed_in(page, "nobody-token")
    with browser.events() as events:
        assert picture_of(events) == {}

    assert browser.post("/api/history", {"card": "GPU-gpu-0000-0"})[1] == {
        "card": "GPU-gpu-0000-0", "samples": [], "may": False,
    }  # fmt: skip
    assert "error" in browser.post("/api/what-if", {"yaml": "kind: Pod"})[1]


def test_a_change_comes_as_a_change_and_leads_to_the_picture_that_a_new_viewer_gets(page: Served):
    with signed_in(page, "admin-token").events() as events:
        seen = picture_of(events)
        page.store.feed.apply_pod("ADDED", holder("new-one", "team-bob", "gpu-0003", 1, 4000))
        while not any(pod[0] == "team-bob/new-one" for pod in seen["nodes"]["gpu-0003"]["pods"]):
            name, content = next(events)
            if name == "rows":
                assert set(content.get("nodes", {})) <= {"gpu-0003"}
                seen = applied(seen, content)
        with signed_in(page, "admin-token").events() as others:
            anew = picture_of(others)

    assert seen["nodes"] == anew["nodes"]


def test_the_history_of_a_card_is_kept_from_the_start(page: Served):
    browser = signed_in(page, "admin-token")
    with browser.events() as events:
        picture_of(events)
    found = browser.post("/api/history", {"card": "GPU-gpu-0000-0"})[1]

    assert found["may"]
    assert [sample[3] for sample in found["samples"]] == ["ok"]


PODS = """
apiVersion: v1
kind: Pod
metadata: {name: fits, namespace: team-ada}
spec: {containers: [{name: main, image: x, resources: {limits: {nvidia.com/gpu: 1, nvidia.com/gpumem: 8000}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: huge, namespace: team-ada}
spec: {containers: [{name: main, image: x, resources: {limits: {nvidia.com/gpu: 1, nvidia.com/gpumem: 90000}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: theirs, namespace: team-bob}
spec: {containers: [{name: main, image: x, resources: {limits: {nvidia.com/gpu: 1, nvidia.com/gpumem: 8000}}}]}
"""


def test_pasted_pods_are_placed_by_the_simulator_beside_what_runs_and_nothing_is_created(page: Served):
    before = list(page.kube.writes)
    found = signed_in(page, "ada-token").post("/api/what-if", {"yaml": PODS})[1]

    by_name = {pod["pod"]: pod for pod in found["pods"]}
    assert by_name["team-ada/fits"]["node"].startswith("gpu-")
    assert by_name["team-ada/fits"]["slices"][0][1] == 8000
    assert "largest such card" in by_name["team-ada/huge"]["why"]
    assert by_name["team-bob/theirs"] == {
        "pod": "team-bob/theirs", "node": "", "why": "you may not list the pods of team-bob",
    }  # fmt: skip
    assert page.kube.writes == before


@pytest.mark.parametrize(
    ("pasted", "words"),
    [
        ("", "paste the YAML"),
        ("a: [", "not YAML or JSON"),
        ("just words", "an object is expected"),
        ("x" * 70_000, "more than 64 KiB"),
    ],
)
def test_what_cannot_be_tried_is_said_in_a_sentence(page: Served, pasted: str, words: str):
    found = signed_in(page, "admin-token").post("/api/what-if", {"yaml": pasted})[1]

    assert words in found.get("error", "")


def test_aliases_in_yaml_are_read_as_what_they_stand_for(page: Served):
    pasted = "a: &a [x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nmetadata: {name: plain}\nkind: Pod"

    assert signed_in(page, "admin-token").post("/api/what-if", {"yaml": pasted})[1] == {
        "pods": [{"pod": "default/plain", "node": "", "why": "", "slices": []}],
        "counts": {"all": 1, "placed": 0},
        "notes": [],
    }


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: many, namespace: team-ada}
spec:
  replicas: %d
  template:
    spec: {containers: [{name: main, image: x, resources: {limits: {nvidia.com/gpu: 1, nvidia.com/gpumem: 1}}}]}
"""


def test_every_pod_is_counted_and_those_without_a_place_are_listed_first(page: Served):
    pasted = f"{DEPLOYMENT % (MOST_LINES + 50)}---{PODS}"
    found = signed_in(page, "admin-token").post("/api/what-if", {"yaml": pasted})[1]

    assert (len(found["pods"]), found["counts"]["all"]) == (MOST_LINES, MOST_LINES + 53)
    assert found["notes"] == ["and 53 more pods"]
    assert "team-ada/huge" in {pod["pod"] for pod in found["pods"] if not pod["node"]}


@pytest.mark.parametrize(
    "pasted",
    [
        "kind: ConfigMap\nmetadata: {name: a}",
        "---\n---\n",
        DEPLOYMENT % 0,
        "kind: Pod\nmetadata: {name: a}\nspec: {nodeName: b, containers: []}\nstatus: {phase: Running}",
    ],
)
def test_where_no_pod_looks_for_a_place_it_is_said(page: Served, pasted: str):
    found = signed_in(page, "admin-token").post("/api/what-if", {"yaml": pasted})[1]

    assert found["counts"] == {"all": 0, "placed": 0}
    assert "no pod here looks for a place" in found["notes"][-1]


def test_without_the_quotas_nothing_is_promised(page: Served):
    def fails(method: str, path: str) -> None:
        if "quotas" in path:
            raise Unreachable("no route")

    page.kube.fail = fails
    try:
        found = signed_in(page, "admin-token").post("/api/what-if", {"yaml": PODS})[1]
    finally:
        page.kube.fail = lambda method, path: None

    assert list(found) == ["error"]
    assert "the quotas cannot be read now" in found["error"]


def test_questions_that_come_too_fast_are_put_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listener, "WHAT_IFS", (2.0, 0.0))
    with served(1, 1, waiting=0) as page:
        browser = signed_in(page, "admin-token")
        answers = [browser.ask("POST", "/api/what-if", {"yaml": ""}, **HEADERS) for _ in range(3)]

    assert [status for status, _, _ in answers] == [200, 200, 429]
    assert (answers[2][1], answers[2][2]["Retry-After"]) == (
        "others try something too; try again in a few seconds\n",
        "2",
    )


def test_pages_of_two_clusters_on_this_machine_have_a_cookie_each(page: Served):
    browser = Browser(page)
    for port in ("20001", "20002"):
        headers = browser.ask(
            "POST", "/api/sign-in", {"token": "ada-token"}, **{**HEADERS, "Host": f"localhost:{port}"}
        )[2]
        assert headers["Set-Cookie"].startswith(f"kerf-page-{port}=")

    assert browser.ask("GET", "/api/session", Host="localhost:20002")[0] == 200
    assert browser.ask("GET", "/api/session", Host="localhost:20001")[0] == 401


def test_a_session_that_a_clock_far_ahead_has_signed_is_none():
    key, ada = b"k" * 32, User("ada")
    for seconds, lasts in ((SESSION_S + SKEW_S, True), (SESSION_S + SKEW_S + 1, False)):
        cookie = f"kerf-page-1={render_session(Session(ada, 1000 + seconds), key)}"
        request = Request(RequestHead("GET", "/", {"host": "localhost:1", "cookie": cookie}, 0, True), b"")
        assert (session_of(request, [key], 1000) is not None) == lasts
