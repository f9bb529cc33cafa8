"""Changes between two readings of the cards, as sentences for events and logs."""

from collections.abc import Iterable

from kerf.values.device import Card


def changes(before: Iterable[Card], after: Iterable[Card]) -> tuple[str, ...]:
    """One sentence per card whose mode or state changed, that appeared or disappeared, ordered by card id."""
    old = {card.id: card for card in before}
    new = {card.id: card for card in after}
    found = []
    for key in sorted({*old, *new}):
        was, now = old.get(key), new.get(key)
        if now is None:
            found.append(f"card {key} is gone")
        elif was is None:
            found.append(f"card {key} appeared ({now.model}{'' if now.healthy else f', {now.health}'})")
        elif was.mode is not now.mode:
            found.append(f"card {key} changed from mode {was.mode.word} to {now.mode.word}")
        elif (was.health.state, was.health.cause) != (now.health.state, now.health.cause):
            found.append(f"card {key} {'recovered' if now.healthy else f'is {now.health}'}")
    return tuple(found)
