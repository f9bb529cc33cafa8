"""The page in Debian's Chromium over a network that is slow, silent or cut, and over a cluster that goes away."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from kerf.kube.errors import Unreachable
from scheduler.page import listener
from tests.browser.chromium import chromium, opened
from tests.browser.line import Line, line_to
from tests.browser.world import EVERYTHING, Served, holder, served

__all__ = ["chromium"]
pytestmark = pytest.mark.browser
ENOUGH_MS = 20_000


@pytest.fixture(scope="module")
def page() -> Iterator[Served]:
    with served(40, 200, waiting=4) as one:
        yield one


@pytest.fixture
def line(page: Served) -> Iterator[Line]:
    with line_to(page.page.port) as one:
        yield one


def at(page: Served, line: Line) -> Served:
    return replace(page, url=f"http://127.0.0.1:{line.port}")


def await_link(tab: Any, words: str) -> None:
    tab.wait_for_selector(f"#link:text({words!r})", timeout=ENOUGH_MS)


def test_a_page_that_is_cut_off_says_so_and_how_old_it_is_and_comes_back_by_itself(
    chromium: Any, page: Served, line: Line
):
    tab = opened(chromium, at(page, line), "admin-token")
    line.cut()
    await_link(tab, "the scheduler does not answer")
    tab.wait_for_selector("#old:text-matches('^What you see is [1-9][0-9]? s old')", timeout=ENOUGH_MS)
    assert tab.inner_text("#shown") == "40 nodes, 320 cards."
    tab.focus("#map")
    tab.keyboard.press("Home")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#detail-body :text('The scheduler does not answer. Try again once it does.')")

    page.store.feed.apply_pod("ADDED", holder("while-away", "team-ada", "gpu-0001", 0, 1000))
    line.mend()
    await_link(tab, "live")
    assert tab.inner_text("#old") == ""
    tab.fill("#search", "while-away")
    tab.wait_for_selector("#shown:text('1 node of 40 passes the filters.')")
    assert tab.problems == []


def test_a_network_that_swallows_everything_is_noticed_by_the_silence(chromium: Any, page: Served, line: Line):
    context = chromium.new_context()
    context.clock.install()
    tab = opened(chromium, at(page, line), "admin-token", context=context)
    await_link(tab, "live")
    line.swallow(True)
    tab.clock.fast_forward(31_000)
    await_link(tab, "no word from the scheduler")
    assert "31 s old" in tab.inner_text("#old") or "32 s old" in tab.inner_text("#old")

    line.swallow(False)
    await_link(tab, "live")
    assert tab.problems == []


def test_signing_out_without_an_answer_says_that_the_session_goes_on(chromium: Any, page: Served, line: Line):
    tab = opened(chromium, at(page, line), "admin-token")
    line.cut()
    await_link(tab, "the scheduler does not answer")
    tab.click("#sign-out")
    tab.wait_for_selector("#sign-in-error:text('this browser still has its session')", timeout=ENOUGH_MS)
    assert "gpu-0" not in tab.inner_text("body")
    assert tab.problems == []


def test_a_cluster_that_goes_away_is_said_and_forgotten_when_it_is_back(chromium: Any, page: Served):
    def gone(method: str, path: str) -> None:
        raise Unreachable("no route to host")

    before = page.kube.fail
    tab = opened(chromium, page, "admin-token")
    page.kube.tokens["late-token"] = ("late", EVERYTHING)
    late = chromium.new_context().new_page()
    late.context.request.post(f"{page.url}/api/sign-in", data={"token": "late-token"}, headers={"kerf-page": "1"})
    page.kube.fail = gone
    try:
        tab.wait_for_selector("#notice:text('The API server has not answered since')", timeout=ENOUGH_MS)
        assert tab.inner_text("#shown") == "40 nodes, 320 cards."
        late.goto(page.url)
        late.wait_for_selector("#notice:text('nobody can say what you may see')", timeout=ENOUGH_MS)
        assert late.inner_text("#shown") == "0 nodes, 0 cards."
    finally:
        page.kube.fail = before
    for each in (tab, late):
        each.wait_for_selector("#notice", state="hidden", timeout=ENOUGH_MS)
        each.wait_for_selector("#shown:text('40 nodes, 320 cards.')", timeout=ENOUGH_MS)
    assert tab.problems == []


def test_a_slow_network_gets_a_large_fleet_in_one_piece_and_goes_on(chromium: Any, monkeypatch: pytest.MonkeyPatch):
    """It takes longer than the server waits for a browser that takes nothing."""
    monkeypatch.setattr(listener, "LIMITS", replace(listener.LIMITS, silent_s=2.0))
    with served(200, 1200, waiting=0) as large, line_to(large.page.port) as line:
        tab = opened(chromium, at(large, line), "admin-token")
        said = tab.evaluate_handle(
            "() => { const said = []; const link = document.getElementById('link');"
            " const note = () => said.push(link.textContent);"
            " new MutationObserver(note).observe(link, { childList: true }); return said; }"
        )
        line.bytes_per_s = 60_000
        line.cut()
        line.mend()
        for number in range(50):
            pod = holder(f"slow-{number}", "team-eve", f"gpu-{number:04}", 0, 1000)
            large.store.feed.apply_pod("ADDED", pod)
        tab.wait_for_function(
            "(said) => said.includes('reading …') && said.at(-1) === 'live'", arg=said, timeout=60_000
        )
        assert said.json_value().count("reading …") == 1
        tab.fill("#search", "slow-")
        tab.wait_for_selector("#shown:text('50 nodes of 200 pass the filters.')", timeout=ENOUGH_MS)
        assert tab.problems == []
