"""Two replicas of the page with HTTPS of its own: either serves everybody, sessions are shared, keys rotate."""

import http.client
import ssl
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from kerf.config.prices import PriceFile
from kerf.http.pki import Authority
from kerf.http.tls import peer_context, server_context
from kerf.kube.lease import Claim
from kerf.testing.builders import a_node, a_pod
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from sandbox.layout import free_ports
from scheduler.page import keys
from scheduler.page.keys import ROTATE_S, SECRET, PageKeys
from scheduler.page.what_if import Terms
from scheduler.page.wiring import Asked, Place, RunningPage
from scheduler.state.store import Store, load
from tests.browser.world import ReviewingKube
from tests.scheduler.page.page_world import SecureBrowser, picture_of

LEADER, FOLLOWER = "127.0.0.2", "127.0.0.3"
"""Not the loopback that a port-forward reaches, so cookies need HTTPS and the leader is reached at its address."""
NAMESPACE = "kerf-system"
SECURE = "__Host-kerf-page"


class Seat:
    """Leads, or does not."""

    def __init__(self, *, leads: bool) -> None:
        self.leads = leads

    def term(self) -> int:
        return int(self.leads)

    def holds(self, term: int, for_s: float = 0.0) -> bool:
        return self.leads and term == 1


@dataclass
class Replicas:
    """A leader and a follower beside one API server, and who checks their certificates."""

    kube: ReviewingKube
    leader: RunningPage
    follower: RunningPage
    port: int
    trust: ssl.SSLContext

    def browser(self, host: str) -> SecureBrowser:
        return SecureBrowser(host, self.port, self.trust)

    def rotate(self, days: int) -> bytes:
        """What a leader does after so many days: a new key, of which both have to know. Returns it."""
        later = PageKeys(self.kube, NAMESPACE, lambda: True, lambda: time.time() + days * ROTATE_S + 1)
        later.run_once()
        return later.keys[0]


def a_store(waiting: str) -> Store:
    """The same node everywhere; what waits is known to one replica alone, as reservations and plans are."""
    store = Store(SchedulingPolicy(), VENDORS)
    load(store, [a_node("gpu-0000")], [a_pod(waiting, namespace="team-ada", mem=90_000)])
    return store


@pytest.fixture
def replicas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replicas]:
    monkeypatch.setattr(keys, "LOOP", replace(keys.LOOP, every_s=0.05))
    authority = Authority()
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.pair.certificate)
    cert, key = authority.issue("kerf-page", hosts=(LEADER, FOLLOWER)).write(tmp_path, "page")
    kube, (port,) = ReviewingKube(), free_ports(1)

    @contextmanager
    def running(host: str, *, leads: bool) -> Iterator[RunningPage]:
        place = Place(f"{host}:{port}", server_context(str(cert), str(key)), peer_context(str(ca)), namespace=NAMESPACE)
        claim = Claim("kerf-scheduler-1_x", f"[{LEADER}]:9090", 1)
        asked = Asked(Seat(leads=leads), lambda: claim, lambda: PriceFile(None).prices, dict, Terms())
        page = RunningPage(place, a_store("at-leader" if leads else "at-follower"), kube, asked)
        page.start()
        try:
            yield page
        finally:
            page.stop()

    with running(LEADER, leads=True) as leader, running(FOLLOWER, leads=False) as follower:
        found = Replicas(kube, leader, follower, port, ssl.create_default_context(cafile=str(ca)))
        await_(lambda: found.browser(FOLLOWER).sign_in("admin-token") == 200, "a key that both know")
        yield found


def await_(condition: Any, what: str) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, f"waited 30 s for {what}"
        time.sleep(0.02)


def waiting_in(picture: dict[str, dict[str, Any]]) -> set[str]:
    return {row["name"] for row in picture["waiting"].values()}


def test_a_follower_shows_what_the_leader_alone_knows_and_itself_what_it_knows_once_nobody_leads(replicas: Replicas):
    browser = replicas.browser(FOLLOWER)
    assert browser.sign_in("admin-token") == 200
    assert browser.cookie.startswith(f"{SECURE}=")
    seen = browser.picture()
    assert (waiting_in(seen), seen["about"]["scheduler"]["leads"]) == ({"at-leader"}, True)

    replicas.leader.stop()
    seen = browser.picture()
    assert (waiting_in(seen), seen["about"]["scheduler"]["leads"]) == ({"at-follower"}, False)


def test_a_session_of_one_replica_is_one_of_the_other(replicas: Replicas):
    at_leader, at_follower = replicas.browser(LEADER), replicas.browser(FOLLOWER)
    assert at_leader.sign_in("ada-token") == 200
    at_follower.cookie = at_leader.cookie
    replicas.leader.stop()

    status, who, _ = at_follower.ask("GET", "/api/session")
    assert (status, who["user"]) == (200, "ada")


def test_the_page_speaks_nothing_but_https_and_its_certificate_is_checked(replicas: Replicas):
    with pytest.raises((OSError, http.client.HTTPException)):
        urllib.request.urlopen(f"http://{LEADER}:{replicas.port}/", timeout=20)
    with pytest.raises(ssl.SSLCertVerificationError):
        SecureBrowser(LEADER, replicas.port, ssl.create_default_context()).ask("GET", "/")
    assert replicas.browser(LEADER).ask("GET", "/")[0] == 200


def test_a_session_outlives_a_new_key_and_ends_with_the_second_one(replicas: Replicas):
    leader, follower = replicas.browser(LEADER), replicas.browser(FOLLOWER)
    assert leader.sign_in("admin-token") == follower.sign_in("ada-token") == 200
    before = (leader.cookie, follower.cookie)
    replicas.rotate(1)
    replicas.leader.stop()

    await_(lambda: signed_again(follower, before[1]), "the follower to sign with the new key")
    for cookie, name in zip(before, ("admin", "ada"), strict=True):
        follower.cookie = cookie
        assert follower.ask("GET", "/api/session")[1]["user"] == name
    replicas.rotate(2)
    await_(lambda: follower.ask("GET", "/api/session")[0] == 401, "the first key to be unknown")


def signed_again(browser: SecureBrowser, before: str) -> bool:
    """Whether who signs in now gets a cookie of another key: its first part names the key."""
    browser.cookie = ""
    return browser.sign_in("admin-token") == 200 and key_of(browser.cookie) != key_of(before)


def key_of(cookie: str) -> str:
    return cookie.partition("=")[2].split(".")[0]


def test_an_open_page_ends_once_the_secret_is_emptied(replicas: Replicas):
    browser = replicas.browser(FOLLOWER)
    assert browser.sign_in("admin-token") == 200
    with browser.events() as events:
        picture_of(events)
        path = f"/api/v1/namespaces/{NAMESPACE}/secrets/{SECRET}"
        replicas.kube.put({**replicas.kube.get(path), "data": {}})
        assert [name for name, _ in events][-1] == "end"

    assert browser.ask("GET", "/api/session")[0] == 401
