"""Tabs, the way back, clocks that are wrong, and who comes after: the page in Debian's Chromium over a small fleet."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.chromium import chromium, opened
from tests.browser.world import EVERYTHING, Served, served

__all__ = ["chromium"]
pytestmark = pytest.mark.browser
HIDE = (
    "(hidden) => { Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });"
    " document.dispatchEvent(new Event('visibilitychange')); }"
)
BEHIND = "{ const real = Date.now; Date.now = () => real() - 7200_000; }"


@pytest.fixture(scope="module")
def page() -> Iterator[Served]:
    with served(4, 8, waiting=10, busy=True) as one:
        yield one


def view(tab: Any) -> str:
    return str(tab.evaluate("() => document.querySelector('[role=tab][aria-selected=true]').textContent"))


def test_back_forward_and_reload_keep_the_view_and_what_was_searched_for(chromium: Any, page: Served):
    tab = opened(chromium, page, "admin-token")
    tab.click("#tab-waiting")
    tab.fill("#search", "waits-003")
    tab.wait_for_function("() => history.state?.search === 'waits-003'")
    tab.click("#tab-tenants")
    tab.fill("#search", "")
    tab.wait_for_function("() => history.state?.search === ''")
    tab.go_back()
    assert (view(tab), tab.input_value("#search"), tab.title()) == ("Waiting", "waits-003", "Kerf · Waiting")
    assert tab.locator("#waiting tbody tr").count() == 1

    tab.reload()
    tab.wait_for_selector("#tiles li")
    assert (view(tab), tab.input_value("#search")) == ("Waiting", "waits-003")
    tab.go_forward()
    assert (view(tab), tab.input_value("#search")) == ("Tenants", "")
    assert "waits" not in tab.url
    assert tab.problems == []


def test_a_filter_stays_chosen_where_no_card_is_left_of_it(chromium: Any, page: Served):
    tab = opened(chromium, page, "admin-token")
    tab.select_option("#by-state", "suspect")
    tab.wait_for_function("() => history.state?.state === 'suspect'")
    tab.evaluate("() => history.replaceState({ ...history.state, state: 'cordoned', model: 'A card of before' }, '')")
    tab.reload()
    tab.wait_for_selector("#tiles li")

    assert (tab.input_value("#by-state"), tab.input_value("#by-model")) == ("cordoned", "A card of before")
    assert tab.inner_text("#shown") == "0 nodes of 14 pass the filters."


def test_a_search_that_finds_nothing_does_not_say_that_there_is_nothing(chromium: Any, page: Served):
    tab = opened(chromium, page, "admin-token")
    tab.fill("#search", "no such thing")
    for name in ("waiting", "tenants", "gangs", "faults", "costs", "clusters"):
        tab.click(f"#tab-{name}")
        assert "Nothing here matches the search." in tab.inner_text(f"#{name}"), name


def test_a_hidden_tab_leaves_its_connection_to_others_and_goes_on_when_it_is_seen(chromium: Any, page: Served):
    tab = opened(chromium, page, "admin-token")
    tab.evaluate(HIDE, True)
    tab.wait_for_selector("#link:text('paused while this tab is hidden')", timeout=20_000)
    tab.evaluate(HIDE, False)
    tab.wait_for_selector("#link:text('live')")

    assert tab.locator("#tiles li").count() > 0
    assert tab.problems == []


def test_ages_are_right_on_a_machine_whose_clock_is_wrong_and_grow(chromium: Any, page: Served):
    context = chromium.new_context()
    context.add_init_script(BEHIND)
    right, wrong = opened(chromium, page, "admin-token"), opened(chromium, page, "admin-token", context=context)
    ages = []
    for tab in (right, wrong):
        tab.click("#tab-faults")
        ages.append(tab.locator("#faults [data-name='For']").all_inner_texts())

    assert ages[0] == ages[1]
    assert "7 days" in ages[1]


def test_pages_of_two_clusters_in_one_browser_do_not_sign_each_other_out(chromium: Any, page: Served):
    context = chromium.new_context()
    with served(2, 2, waiting=0) as other:
        tabs = [opened(chromium, one, "admin-token", context=context) for one in (page, other)]
        for tab in tabs:
            tab.reload()
            tab.wait_for_selector("#tiles li")
        assert [tab.inner_text("#shown") for tab in tabs] == ["14 nodes, 104 cards.", "2 nodes, 16 cards."]


def test_who_comes_after_finds_nothing_of_the_one_before(chromium: Any, page: Served):
    tab = opened(chromium, page, "admin-token")
    tab.focus("#map")
    tab.keyboard.press("Home")
    tab.keyboard.press("Enter")
    for name in ("waiting", "gangs", "faults", "costs"):
        tab.click(f"#tab-{name}")
    tab.evaluate("() => { document.getElementById('yaml').value = 'mine'; }")
    tab.click("#sign-out")
    tab.wait_for_selector("#sign-in:not([hidden])")

    left = tab.evaluate("() => document.getElementById('app').textContent")
    assert [word for word in ("team-", "gang-", "gpu-0", "ill-") if word in left] == []
    assert tab.evaluate("() => document.getElementById('yaml').value") == ""
    assert tab.evaluate("() => document.activeElement.id") == "token"
    tab.fill("#token", "ada-token")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#app:not([hidden])")
    assert tab.evaluate("() => document.activeElement.id") == "content"
    assert tab.problems == []


def test_on_paper_it_is_dark_on_white_without_controls(chromium: Any, page: Served):
    tab = opened(chromium, page, "admin-token", color_scheme="dark")
    tab.emulate_media(media="print")
    assert not tab.is_visible("#tabs")
    tab.evaluate("() => { dispatchEvent(new Event('beforeprint')); }")
    assert tab.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    tab.evaluate("() => { dispatchEvent(new Event('afterprint')); }")
    assert tab.evaluate("() => document.documentElement.dataset.theme") == "dark"


def test_marks_that_turn_letters_around_are_seen_and_other_scripts_are_read(chromium: Any, page: Served):
    page.kube.tokens["odd"] = ("مستخدم-\u202elive", EVERYTHING)
    tab = opened(chromium, page, "odd")

    assert tab.inner_text("#user") == "مستخدم-\ufffdlive"
