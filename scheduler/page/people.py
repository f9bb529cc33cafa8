"""Who somebody is and what they may see, asked of the API server. Blocking: call it from a pool of threads."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kerf.kube.client import Kube
from kerf.kube.errors import Unreachable
from kerf.views.page.access import Access
from kerf.wire.reviews import (
    ACCESS_REVIEWS,
    TOKEN_REVIEWS,
    Action,
    User,
    parse_access_review,
    parse_token_review,
    render_access_review,
    render_token_review,
)

FRESH_S = 60.0
"""What somebody may see is asked again after so long, so a right that is taken away is gone from the page as soon."""
DOWN_S = 3.0
"""After no answer nothing is asked for so long: many viewers would otherwise wait for as many time-outs in turn."""
MOST_USERS = 500
MOST_NAMESPACES = 2000
"""Of somebody who may not list the pods of all namespaces at once; further ones are not shown."""


@dataclass(slots=True)
class _Known:
    """Answers about one person, each with when it was given."""

    answers: dict[Action, tuple[float, bool]]
    used: float


class People:
    """Safe from several threads. Raises KubeError where the API server does not answer."""

    def __init__(self, kube: Kube, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[User, _Known] = {}
        self._down: tuple[float, str] | None = None
        """When the API server did not answer, and how."""

    def user_of(self, token: str) -> User | None:
        """The token's user; None where the API server does not know it."""
        return parse_token_review(self._kube.create(TOKEN_REVIEWS, render_token_review(token)))

    def access_of(self, user: User, namespaces: Iterable[str]) -> Access:
        """What the person may see, of the namespaces of which the page knows something."""
        nodes = self._may(user, Action("list", "", "nodes"))
        clusters = self._may(user, Action("list", "kerf.dev", "clusters"))
        if self._may(user, Action("list", "", "pods")):
            return Access(everywhere=True, nodes=nodes, clusters=clusters)
        asked = sorted(set(namespaces))[:MOST_NAMESPACES]
        seen = frozenset(name for name in asked if self._may(user, Action("list", "", "pods", name)))
        return Access(namespaces=seen, nodes=nodes, clusters=clusters)

    def _may(self, user: User, action: Action) -> bool:
        now = self._clock()
        with self._lock:
            known = self._known.setdefault(user, _Known({}, now))
            known.used = now
            at, said = known.answers.get(action, (float("-inf"), False))
            self._forget_some()
        if now - at < FRESH_S:
            return said
        said = self._ask(user, action)
        with self._lock:
            known.answers[action] = (now, said)
            if len(known.answers) > 2 * MOST_NAMESPACES:
                known.answers = {each: one for each, one in known.answers.items() if now - one[0] < FRESH_S}
        return said

    def _ask(self, user: User, action: Action) -> bool:
        down = self._down
        if down is not None and self._clock() - down[0] < DOWN_S:
            raise Unreachable(down[1])
        try:
            said = parse_access_review(self._kube.create(ACCESS_REVIEWS, render_access_review(user, action)))
        except Unreachable as error:
            self._down = (self._clock(), error.message)
            raise
        self._down = None
        return said

    def _forget_some(self) -> None:
        while len(self._known) > MOST_USERS:
            del self._known[min(self._known, key=lambda user: self._known[user].used)]
