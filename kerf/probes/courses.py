"""The courses of a node's cards, shared by what reads the cards and what hears of faults."""

import threading
from collections.abc import Callable, Mapping

from kerf.probes.recovery import Course, Sign
from kerf.values.health import HEALTHY, Health, State


class Courses:
    """Safe from several threads. `clean_reads` is how many clean readings make a card healthy again."""

    def __init__(self, boot: str, clean_reads: Callable[[], int]) -> None:
        self._boot = boot
        self._clean_reads = clean_reads
        self._lock = threading.Lock()
        self._courses: dict[str, Course] = {}

    def health(self, card: str) -> Health:
        """A card's health as of now."""
        return self._courses.get(card, Course()).health

    def restore(self, healths: Mapping[str, Health]) -> None:
        """Go on from what an earlier run knew of cards. What this run has seen already counts more."""
        with self._lock:
            for card, health in healths.items():
                if self._courses.get(card, Course()).health == HEALTHY:
                    self._courses[card] = Course(health).after_restart(self._boot)

    def fault(self, card: str, sign: Sign) -> bool:
        """The card has a fault; whether its health is another now."""
        return self._step(card, lambda course: course.after_fault(sign, self._boot))

    def failed(self, card: str, cause: str, now: int) -> None:
        """The card could not be read."""
        self._step(card, lambda course: course.after_failed_reading(cause, now))

    def read(self, card: str, reset_pending: bool | None, now: int) -> None:
        """The card was read."""
        self._step(card, lambda course: course.after_reading(reset_pending, now, self._clean_reads()))

    def cordoned(self, card: str) -> bool:
        """Whether the card has a fault that only a reset ends."""
        return self.health(card).state is State.CORDONED

    def _step(self, card: str, step: Callable[[Course], Course]) -> bool:
        with self._lock:
            before = self._courses.get(card, Course())
            after = self._courses[card] = step(before)
        return after.health != before.health
