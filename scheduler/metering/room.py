"""For how many more replicas of a pod there is room: by the cards as they are now, and by its tenant's quota."""

from kerf.metering.scale import Room
from kerf.values.ask import ContainerAsk, PodAsk, Selection
from kerf.values.grant import card_uses
from kerf.values.quota import DIMENSIONS, class_of, usage_of_grant
from kerf.values.units import show_mib
from kerf.values.verdict import Misfit
from scheduler.state.bookings import Booking
from scheduler.state.desk import Desk

UNITS = {"memory_mib": "MiB", "cores": "% of cores", "cards": "slices"}


def room_for(booking: Booking, desk: Desk, most: int) -> Room:
    """How many more such pods fit, at most `most`, and what the bound is. CPU and host memory are not looked at."""
    by_quota = _by_quota(booking, desk)
    by_cards = _by_cards(booking, desk, most)
    return min((room for room in (by_quota, by_cards) if room is not None), key=lambda room: room.more)


def _by_cards(booking: Booking, desk: Desk, most: int) -> Room:
    ask = ask_like(booking, desk)
    states = [state for state in desk.states() if state.schedulable]
    found = 0
    for state in states:
        left = state
        while found < most and not isinstance(grant := desk.by_cards_alone(ask, left), Misfit):
            left = left.holding(card_uses(grant, ()))
            found += 1
    sizes = ", ".join(f"{each.cards} x {show_mib(each.memory_mib or 0)}" for each in ask.containers)
    classes = ", ".join(ask.selection.classes)
    return Room(found, f"the cards of {classes or 'its class'} have room for {found} more of {sizes}")


def ask_like(booking: Booking, desk: Desk) -> PodAsk:
    """An ask for what the pod holds, on cards of the same classes."""
    holding = booking.holding
    namespace, _, name = booking.key.partition("/")
    containers = []
    for container in holding.grant.containers if holding else ():
        if container.slices:
            first = container.slices[0]
            count = len(container.slices)
            containers.append(
                ContainerAsk(container.name, count, first.memory_mib, cores=first.cores, vendor=first.vendor)
            )
    classes = tuple(sorted(_classes(booking, desk)))
    return PodAsk(namespace, name, "", tuple(containers), Selection(classes=classes))


def _classes(booking: Booking, desk: Desk) -> set[str]:
    node = desk.node(booking.node)
    return {class_of(card).slug for card in node.cards if card.id in booking.uses} if node else set()


def _by_quota(booking: Booking, desk: Desk) -> Room | None:
    limits = desk.limits()
    namespace = booking.key.partition("/")[0]
    share = next((each for each in limits.shares.tenants if namespace in each.tenant.namespaces), None)
    node = desk.node(booking.node)
    if share is None or booking.holding is None or node is None:
        return None
    names = {card.id: class_of(card).slug for card in node.cards}
    held = desk.used().get(share.tenant.name, {})
    rooms: list[Room] = []
    for slug, amount in usage_of_grant(booking.holding.grant, booking.holding.stages, names).by:
        part = next((part for part in share.parts if part.card_class.slug == slug), None)
        if part is None:
            return Room(0, f"tenant {share.tenant.name} has no quota of {slug}")
        for dimension in DIMENSIONS:
            limit, each = part.limit.of(dimension), getattr(amount, dimension)
            if limit is not None and each:
                used = getattr(held.get(slug), dimension, 0)
                text = f"tenant {share.tenant.name} may hold {limit:,} {UNITS[dimension]} of {slug} and holds {used:,}"
                rooms.append(Room(max((limit - used) // each, 0), text))
    return min(rooms, key=lambda room: room.more, default=None)
