"""Rows of the page from the scheduler's values.

A card's entry is a list, because there are thousands: id, index, vendor, model, mode, state, cause, since, MiB, MiB
that are held, percent of cores, percent that is held, slots, slots that are held. A pod's entry: name, state, number
of the card in the row, MiB, percent of cores.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from kerf.metering.use import MICRO, MeteredCard, share
from kerf.values.device import Card
from kerf.values.grant import CardUse
from kerf.values.health import State
from kerf.values.node import Node
from kerf.values.slicing import sliceable
from kerf.views.page.picture import Row
from kerf.views.parts import way_of
from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.usage import plain

PARTS = MICRO * MICRO
"""Of one unit of the currency: small enough that a slice's are whole, so that sums are exact."""
OK, CORDONED, NOT_SLICED = "ok", "cordoned", "not sliced"
Held = tuple[str, str, Mapping[str, CardUse]]
"""A pod's name, the state of what it holds, and what it holds of which card."""


def node_row(node: Node, cards: Iterable[tuple[Card, CardUse]], held: Iterable[Held]) -> Row:
    """A node with its cards and the pods that hold them."""
    known = list(cards)
    numbers = {card.id: number for number, (card, _) in enumerate(known)}
    return {
        "ready": node.ready,
        "open": node.schedulable,
        "problem": node.problem,
        "cards": [_card(card, use, node) for card, use in known],
        "pods": [
            [pod, state, numbers[card], use.memory_mib, use.cores]
            for pod, state, uses in held
            for card, use in sorted(uses.items())
            if card in numbers
        ],
    }


def _card(card: Card, use: CardUse, node: Node) -> list[Any]:
    state, cause = state_of(card, node)
    amounts = (card.memory_mib, use.memory_mib, card.cores, use.cores, card.slots, use.slots)
    return [card.id, card.index, card.vendor, card.model, way_of(card), state, cause, card.health.since, *amounts]


def state_of(card: Card, node: Node) -> tuple[str, str]:
    """Why a card takes no new slices, in a word and a sentence; `ok` for one that does."""
    if not sliceable(card):
        return NOT_SLICED, card.slicing.refusal
    if card.health.state is not State.HEALTHY:
        return card.health.state.value, card.health.cause or "its node reports it unhealthy"
    if card.id in node.fault_cordoned:
        return CORDONED, "Kerf cordoned it after a fault"
    if card.id in node.cordoned:
        return CORDONED, "its node's annotation cordons it"
    return OK, ""


def cluster_row(item: Json) -> Row:
    """A cluster of the fleet."""
    spec, status = at(item, "spec"), at(item, "status")
    return {
        "name": str(at(item, "metadata").get("name", "")),
        "region": str(spec.get("region", "")),
        "supply": str(spec.get("supply", "owned")),
        "cordoned": bool(spec.get("cordoned")),
        "draining": bool(spec.get("draining")),
        "phase": str(status.get("phase", "Unseen")),
        "epoch": status.get("epoch", 0),
        "contact": status.get("lastContact", 0),
        "reliability": status.get("reliability", "—"),
        "why": next((said for each in items_at(status, "conditions") if (said := _refusal(each))), ""),
        "rights": next((text_at(c, "message") for c in items_at(status, "conditions") if _lacks_rights(c)), ""),
        "classes": [dict(each) for each in items_at(status, "classes")],
    }


def _lacks_rights(condition: Json) -> bool:
    return condition.get("type") == "Permitted" and condition.get("status") == "False"


def _refusal(condition: Json) -> str:
    """What a condition says that keeps a cluster from taking new work; empty for one that does not."""
    kept = condition.get("type") in {"Reachable", "Fresh"} and condition.get("status") == "False"
    return text_at(condition, "message") if kept else ""


def spent_on(cards: Mapping[str, MeteredCard], held: Iterable[tuple[str, Mapping[str, CardUse]]]) -> dict[str, int]:
    """What an hour of what pods hold of these cards costs, by namespace, in parts of the currency (`PARTS`).

    `held` are namespaces with what a pod holds. Shares of a card that exceed one are divided by their sum, as in bills.
    """
    parts: dict[str, list[tuple[str, int, int]]] = {}
    for namespace, uses in held:
        for card, use in uses.items():
            if card in cards:
                parts.setdefault(card, []).append((namespace, *share(use, cards[card].memory_mib)))
    spent: dict[str, int] = {}
    for card, shares in parts.items():
        whole = max(shares[0][2], sum(part for _, part, _ in shares))
        for namespace, part, _ in shares:
            spent[namespace] = spent.get(namespace, 0) + cards[card].per_hour * MICRO * part // whole
    return spent


def cost_rows(
    per_hour: int, free: Iterable[str], spent: Mapping[str, int], tenants: Mapping[str, str], currency: str
) -> dict[str, Row]:
    """What an hour costs as things are now: the cards, what is idle of them, and each tenant or namespace without one.

    `per_hour` and `spent` are in parts of the currency (`PARTS`); `free` are models of cards that cost nothing.
    """
    every, allocated = _money(per_hour), _money(sum(spent.values()))
    found: dict[str, Row] = {
        "all": {
            "cards": plain(every),
            "allocated": plain(allocated),
            "idle": plain(every - allocated),
            "currency": currency,
            "free": sorted(free),
        }
    }
    for (kind, name), (cost, names) in _by_owner(spent, tenants).items():
        found[f"{kind}/{name}"] = {
            "kind": kind, "name": name, "per_hour": plain(_money(cost)), "namespaces": names, "currency": currency
        }  # fmt: skip
    return found


def _by_owner(spent: Mapping[str, int], tenants: Mapping[str, str]) -> dict[tuple[str, str], tuple[int, list[str]]]:
    found: dict[tuple[str, str], tuple[int, list[str]]] = {}
    for namespace in sorted(spent):
        owner = ("tenant", tenants[namespace]) if namespace in tenants else ("namespace", namespace)
        cost, names = found.get(owner, (0, []))
        found[owner] = (cost + spent[namespace], [*names, namespace])
    return found


def _money(parts: int) -> Decimal:
    return (Decimal(parts) / PARTS).quantize(Decimal("0.0001"))
