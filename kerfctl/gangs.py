"""Gangs of which some pods have a place and some have none: none of them starts."""

from collections.abc import Iterator

from scheduler.state.store import Store


def broken_gangs(store: Store) -> Iterator[str]:
    """A sentence for each gang that is not whole after every waiting pod was tried."""
    placed = store.ledger.gang_members()
    sizes = {each.ask.gang: each.ask.gang_size for each in store.desk.waiting() if each.ask.gang}
    for gang, size in sorted(sizes.items()):
        if gang and size > 1 and placed.get(gang, 0) < size:
            yield f"gang {gang}: {placed.get(gang, 0)} of {size} pods have a place; none starts before all have one"
