"""`kerf ui`: where the page is, whose token signs in, how a browser gets the cookie once."""

import http.client
import socket
import stat
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from kerf.kube.lease import Claim, Times, render_lease
from kerf.testing.builders import a_pod
from kerf.testing.fake_kube import FakeKube
from kerfctl.errors import CliError
from kerfctl.main import main
from kerfctl.ui.credential import cookie_of, token_of
from kerfctl.ui.doorstep import Doorstep
from kerfctl.ui.forward import Forward, forward_to, usual_port
from kerfctl.ui.target import Address, Leader, parse_url
from tests.browser.world import served


class Tunnel:
    """Notes what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []

    def open(self, namespace: str, pod: str, port: int) -> Any:
        self.asked.append((namespace, pod, port))
        return None


class Rights(FakeKube):
    """Allows what it is made with, and answers TokenRequests."""

    def __init__(self, *allowed: str) -> None:
        super().__init__()
        self.allowed = allowed
        self.tokens: list[str] = []

    def create(self, path: str, body: Any, query: Any = None) -> Any:
        if path.endswith("/selfsubjectaccessreviews"):
            return {"status": {"allowed": body["spec"]["resourceAttributes"]["resource"] in self.allowed}}
        self.tokens.append(path)
        return {"status": {"token": "made"}}


def test_the_page_is_that_of_the_replica_that_leads():
    claim = Claim("kerf-scheduler-7d9f-abc_1a2b3c4d", "[10.0.0.1]:9090", 3)
    kube, tunnel = FakeKube(render_lease("kerf-system", "kerf-scheduler", claim, Times(), 0.0)), Tunnel()
    Leader(kube, tunnel, "kerf-system", 9092).open()

    assert tunnel.asked == [("kerf-system", "kerf-scheduler-7d9f-abc", 9092)]


def test_a_single_replica_without_a_lease_is_the_pod_that_runs_and_none_is_said():
    tunnel = Tunnel()
    pods = (a_pod("ended", namespace="here", phase="Failed"), a_pod("kerf-1", namespace="here", phase="Running"))
    Leader(FakeKube(*pods), tunnel, "here", 9092).open()

    assert tunnel.asked == [("here", "kerf-1", 9092)]
    with pytest.raises(OSError, match="no replica of the scheduler runs in namespace here"):
        Leader(FakeKube(), tunnel, "here", 9092).open()


@pytest.mark.parametrize(
    "text", ["", "localhost:9092", "https://x:1", "http://x", "http://x:1/path", "http://x:99999", "http://[:1"]
)
def test_an_address_that_is_none_is_refused_with_the_fix(text: str):
    with pytest.raises(CliError, match="write http://HOST:PORT"):
        parse_url(text)


def test_somebody_with_a_token_signs_in_with_it_and_asks_for_no_other():
    kube = Rights()

    assert (token_of(kube, "own", "kerf-system", None), kube.tokens) == ("own", [])


def test_somebody_with_a_certificate_who_may_list_everything_gets_the_viewers_token():
    kube = Rights("pods", "nodes")

    assert token_of(kube, "", "kerf-system", None) == "made"
    assert kube.tokens == ["/api/v1/namespaces/kerf-system/serviceaccounts/kerf-page-viewer/token"]


@pytest.mark.parametrize("allowed", [(), ("pods",), ("nodes",)])
def test_the_viewers_token_is_never_asked_for_somebody_who_may_see_less(allowed: tuple[str, ...]):
    kube = Rights(*allowed)

    with pytest.raises(CliError, match="--service-account NAMESPACE/NAME"):
        token_of(kube, "", "kerf-system", None)
    assert kube.tokens == []


def test_an_account_that_somebody_names_is_taken_as_kubernetes_allows():
    kube = Rights()

    assert token_of(kube, "own", "kerf-system", "team-a/viewer") == "made"
    assert kube.tokens == ["/api/v1/namespaces/team-a/serviceaccounts/viewer/token"]
    with pytest.raises(CliError, match="write NAMESPACE/NAME"):
        token_of(kube, "", "kerf-system", "viewer")


def post(url: str, code: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(url.removeprefix("http://").rstrip("/"), timeout=20)
    connection.request("POST", "/", urlencode({"code": code}))
    return connection.getresponse()


def test_the_code_gives_the_cookie_once_and_another_code_never(tmp_path: Path):
    doorstep = Doorstep("kerf-page=secret; Path=/", "http://127.0.0.1:1/")
    try:
        file = doorstep.write_file(tmp_path / "kerf")
        code = doorstep.code
        assert (post(doorstep.url, "other").status, post(doorstep.url, "").status) == (403, 403)
        answer = post(doorstep.url, code)

        assert (answer.status, answer.headers["Location"]) == (303, "http://127.0.0.1:1/")
        assert answer.headers["Set-Cookie"] == "kerf-page=secret; Path=/"
        assert (post(doorstep.url, code).status, post(doorstep.url, "").status) == (403, 403)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert code in file.read_text()
        assert code not in doorstep.url
    finally:
        doorstep.close()


def test_a_forwarded_port_signs_in_at_the_page_and_carries_its_answers():
    with served(2, 4, waiting=0) as page:
        forward = Forward(Address("127.0.0.1", page.page.port), 0)
        try:
            assert cookie_of(forward.port, "admin-token").startswith(f"kerf-page-{forward.port}=")
            with pytest.raises(CliError, match="does not know this token"):
                cookie_of(forward.port, "unknown")
        finally:
            forward.close()


@pytest.mark.parametrize(
    "words", [("--port", "99999"), ("--port", "-1"), ("--page-port", "0"), ("--page-port", "70000")]
)
def test_a_port_that_is_none_is_refused(words: tuple[str, str], capsys: pytest.CaptureFixture[str]):
    assert main(["ui", *words]) == 1
    assert f"{words[0]} {words[1]}: write a port from" in capsys.readouterr().err


def test_a_page_that_is_not_there_is_said_with_the_reason():
    forward = Forward(Address("127.0.0.1", 1), 0)
    try:
        with pytest.raises(OSError, match=r"."):
            cookie_of(forward.port, "own")
        assert "refused" in forward.problem
    finally:
        forward.close()


def test_a_connection_ends_on_both_sides_when_one_ends():
    near, far = socket.socketpair()
    taken = threading.Event()

    class Once:
        def open(self) -> socket.socket:
            taken.set()
            return far

    forward = Forward(Once(), 0)
    with socket.create_connection(("127.0.0.1", forward.port), timeout=20) as browser:
        browser.sendall(b"hello")
        assert near.recv(5) == b"hello"
        near.close()
        assert browser.recv(1) == b""
    forward.close()
    assert taken.is_set()


def test_a_release_has_the_same_port_each_time_and_another_one_while_something_has_it():
    port = usual_port("https://east:6443", "kerf-system")
    assert 20_000 <= port < 30_000
    assert port == usual_port("https://east:6443", "kerf-system")
    assert port != usual_port("https://west:6443", "kerf-system")

    target = Address("127.0.0.1", 1)
    first = Forward(target, 0)
    second = forward_to(target, 0, first.port)
    try:
        assert second.port != first.port
        with pytest.raises(OSError, match="in use"):
            forward_to(target, first.port, second.port)
    finally:
        first.close()
        second.close()


def test_two_that_run_at_once_have_a_file_each(tmp_path: Path):
    steps = [Doorstep("c", f"http://127.0.0.1:{port}/") for port in (20_001, 20_002)]
    files = [step.write_file(tmp_path) for step in steps]
    for step in steps:
        step.close()

    assert [file.name for file in files] == ["open-kerf-20001.html", "open-kerf-20002.html"]
    assert all(step.code in file.read_text() for step, file in zip(steps, files, strict=True))
