"""Debian's Chromium, and a tab of it in which somebody has signed in."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.world import Served

CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A missing browser is a failure: `make browser` installs it."""
    from playwright.sync_api import sync_playwright

    assert shutil.which(CHROMIUM), "Debian's chromium is not installed: apt-get install chromium (make browser)"
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(chromium: Any, page: Served, token: str, width: int = 1440, *, context: Any = None, **more: Any) -> Any:
    """A tab in which somebody has signed in and sees the first picture."""
    context = context or chromium.new_context(viewport={"width": width, "height": 900}, **more)
    tab = context.new_page()
    tab.problems = []
    tab.on("pageerror", lambda error: tab.problems.append(str(error)))
    tab.goto(page.url)
    tab.wait_for_selector("#sign-in:not([hidden])")
    tab.fill("#token", token)
    tab.click("#sign-in-form button")
    tab.wait_for_selector("#app:not([hidden])")
    tab.wait_for_selector("#tiles li")
    return tab
