"""`kerf ui` as a person runs it: a process, the code that it prints, and a browser that keeps the cookie."""

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from sandbox import ControlPlane, await_until
from tests.scheduler.page.page_world import Browser, at_port, picture_of

SAID = re.compile(r"page is at http://127\.0\.0\.1:(\d+)/.*give the code (\S+) at (http://\S+)", re.DOTALL)


@dataclass
class Visit:
    """A browser that has signed in with the code of a `kerf ui`, which runs."""

    browser: Browser

    def session(self) -> tuple[int, Any]:
        """Status and answer; 0 while nobody answers."""
        try:
            return self.browser.ask("GET", "/api/session")[:2]
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)

    def picture(self) -> dict[str, dict[str, Any]]:
        with self.browser.events() as events:
            return picture_of(events)


@contextmanager
def visit(cp: ControlPlane, home: Path, page_port: int) -> Iterator[Visit]:
    """`kerf ui --no-browser` of an administrator with a client certificate until the context ends, which is Ctrl-C."""
    said = home / "said"
    process = _let_in(cp, home, page_port)
    try:
        found = SAID.search(said.read_text())
        assert found, said.read_text()
        port, code, doorstep = found.groups()
        browser = Browser(at_port(int(port)))
        assert _post_code(doorstep, "another")[0] == 403
        status, headers = _post_code(doorstep, code)
        assert (status, headers["Location"]) == (303, f"http://127.0.0.1:{port}/")
        browser.cookie = headers["Set-Cookie"].partition(";")[0]
        yield Visit(browser)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert process.returncode == 130
    assert not list(home.rglob("open-kerf-*.html")), "the file with the code is gone"


def _let_in(cp: ControlPlane, home: Path, page_port: int) -> "subprocess.Popen[bytes]":
    """`kerf ui`, which has said something. A page whose leader is new is asked again."""
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"  # xdist's workers ignore it
    )
    program += "; from kerfctl.main import main; sys.exit(main())"
    kubeconfig = str(cp.kubeconfig_for("person", ("system:masters",)))
    words = ("ui", "--no-browser", "--kubeconfig", kubeconfig, "--page-port", str(page_port))
    said, running = home / "said", list[subprocess.Popen[bytes]]()

    def speaks() -> bool:
        ended = not running or running[-1].poll() is not None
        if not running or (ended and "is not there yet" in said.read_text()):
            with said.open("w") as sink:
                argv = (sys.executable, "-c", program, *words)
                running.append(subprocess.Popen(argv, stdout=sink, stderr=sink, env={**os.environ, "HOME": str(home)}))
            return False
        return ended or SAID.search(said.read_text()) is not None

    try:
        await_until(speaks, "kerf ui to speak")
    except BaseException:
        running[-1].kill()
        raise
    return running[-1]


def _post_code(doorstep: str, code: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(urlsplit(doorstep).netloc, timeout=20)
    connection.request("POST", "/", urlencode({"code": code}))
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.headers
