"""Checks of nodes, cards and grants, with the codecs that the daemons use."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from kerf.values.device import Card
from kerf.values.grant import NO_USE, CardUse, card_uses
from kerf.values.health import State
from kerf.values.node import Node
from kerf.values.recovery import Remedy
from kerf.values.slicing import sliceable
from kerf.values.units import show, show_mib
from kerf.wire.annotations import GRANT
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.objects import (
    OF_HAMIS_PLUGIN,
    cards_of,
    cards_without_grant,
    is_finished,
    parse_holding,
    parse_node,
)
from kerf.wire.resources import parse_pod
from kerfctl.diagnosis.dump import Dump, Finding, Level, name_of, notes_of

OTHER_PLUGINS = ("nvidia-device-plugin", "k8s-device-plugin", "hami-device-plugin")
"""What the names or images of other plugins for the same cards have in them."""


def inventories(dump: Dump) -> Iterator[Finding]:
    """Every node with a vendor's cards has that vendor's inventory, and it can be read."""
    for node in dump.nodes:
        name, notes = name_of(node), notes_of(node)
        problem = parse_node(node, dump.vendors).problem
        labels, capacity = at(node, "metadata", "labels"), at(node, "status").get("capacity")
        if problem:
            fix = "restart the device plugin there: it rewrites the annotation; no other writer may"
            yield Finding(f"node {name}: its inventory cannot be read: {problem}", fix)
            continue
        for vendor in dump.vendors:
            has_cards = any(labels.get(label) == "true" for label in vendor.card_labels)
            has_cards = has_cards or _number(capacity, vendor.words.count) > 0
            published = {vendor.inventory_key, vendor.hami_register} & set(notes)
            if vendor.plugin:
                published |= {key for key in vendor.plugin.keys if key in notes or _number(capacity, key) > 0}
            if has_cards and not published:
                fix = "check that a device plugin runs there: its DaemonSet selects nodes, and taints keep pods away"
                key = vendor.plugin.keys[0] if vendor.plugin else vendor.inventory_key
                yield Finding(f"node {name} has cards and no {key}: nothing is placed there", fix)


def strangers(dump: Dump) -> Iterator[Finding]:
    """Pods that hold cards of which Kerf knows nothing, and device plugins that serve the same cards."""
    known = {node.name for node in _nodes(dump) if node.cards}
    ours = _ours(dump)
    for pod in dump.pods:
        node = text_at(pod, "spec", "nodeName")
        cards = cards_without_grant(pod, dump.vendors)
        if cards and node in known:
            yield Finding(
                f"pod {name_of(pod)} holds {cards} cards of node {node} without a grant: nothing is placed there",
                "let it end, or delete it so that its owner creates it again through Kerf (docs/neighbours.md)",
            )
        images = " ".join(text_at(each, "image") for each in items_at(pod, "spec", "containers"))
        words = f"{name_of(pod)} {images}"
        if node in ours and not (_is_hamis(pod) or is_finished(pod)) and any(sign in words for sign in OTHER_PLUGINS):
            yield Finding(
                f"pod {name_of(pod)} is another device plugin on node {node}: the last to register serves the cards",
                "keep it off Kerf's nodes (docs/neighbours.md)",
            )


def health(dump: Dump) -> Iterator[Finding]:
    """Cards that take no new pods."""
    for node in _nodes(dump):
        for card in node.cards:
            where = f"node {node.name}, card {card.index} ({card.id})"
            if not sliceable(card):
                fix = "no fix is needed if another plugin serves the card"
                yield Finding(f"{where} takes no slices: {card.slicing.refusal}", fix, Level.WARNING)
            elif not card.healthy:
                yield Finding(f"{where} is unhealthy ({card.health})", _way_back(card), Level.WARNING)
            elif card.id in node.cordoned:
                yield Finding(
                    f"{where} is cordoned", "remove it from the cordon annotation once it works", Level.WARNING
                )
        unknown = sorted(set(node.cordoned) - {card.id for card in node.cards})
        if unknown and node.cards:
            words = ", ".join(unknown)
            yield Finding(
                f"node {node.name}: the cordon names cards that the node does not have: {words}",
                "correct the annotation",
                Level.WARNING,
            )


_WAYS = {
    Remedy.RESET_CARD: "reset the card (nvidia-smi --gpu-reset) once no pod holds it",
    Remedy.REBOOT_NODE: "reboot the node once no pod holds the card",
    Remedy.REPAIR_CARD: "have the card repaired or replaced: a reset did not last",
}


def _way_back(card: Card) -> str:
    """How a card becomes healthy again."""
    health = card.health
    if health == OF_HAMIS_PLUGIN:
        return "replace the node's device plugin (docs/migrate-from-hami.md, step 3)"
    if health.state is State.RECOVERING:
        return "wait: it answers well again, and takes slices after some more clean readings"
    if health.state is not State.CORDONED:
        return "look for Xid errors in the node's kernel log; it comes back by itself when NVML answers"
    way = _WAYS.get(Remedy(health.remedy)) if health.remedy in set(Remedy) else None
    moved = "; what runs on it is lost, and moves where the policy says recovery.mode: recover" if health.moves else ""
    return (way or "see the kernel log for what the card needs") + "; it comes back by itself after that" + moved


def pauses(dump: Dump) -> Iterator[Finding]:
    """Nodes on which recovery has stopped evicting."""
    for node in dump.nodes:
        for condition in items_at(node, "status", "conditions"):
            if condition.get("type") == "KerfRecoveryPaused" and condition.get("status") == "True":
                name = name_of(node)
                fix = f"find the common cause (driver, power, fabric), then: kerf faults resume {name}"
                yield Finding(f"node {name}: {condition.get('message', 'recovery is paused')}", fix)


def allocatable(dump: Dump) -> Iterator[Finding]:
    """The kubelet counts what the inventory says."""
    for raw in dump.nodes:
        node = parse_node(raw, dump.vendors)
        for vendor in dump.vendors if node.ready else ():
            if vendor.inventory_key not in notes_of(raw):
                continue
            count = vendor.words.count
            slots = sum(card.slots for card in node.cards if card.vendor == vendor.name and sliceable(card))
            counted = _number(at(raw, "status").get("capacity"), count)
            if slots != counted:
                yield Finding(
                    f"node {node.name}: the kubelet counts {counted} {count}, the inventory has {slots} slots",
                    "see that Kerf's device plugin, and no other for that resource, is registered there",
                )


def overcommitment(dump: Dump) -> Iterator[Finding]:
    """The sum of all grants is within every card."""
    used = _used(dump)
    for node in _nodes(dump):
        factors = dump.policy.factors(node)
        for card in node.cards:
            use, most = used.get((node.name, card.id), NO_USE), card.overcommitted(*factors)
            amounts = (
                (f"{show_mib(use.memory_mib)} of {show_mib(most.memory_mib)}", use.memory_mib > most.memory_mib),
                (f"{show(use.cores)} of {show(most.cores)} % of the cores", use.cores > most.cores),
                (f"{use.slots} of {card.slots} slots", use.slots > card.slots),
            )
            over = [words for words, too_much in amounts if too_much]
            if over:
                fix = "delete the newest pod on it; give --policy if pools over-commit on purpose"
                yield Finding(f"node {node.name}, card {card.index} ({card.id}): granted {' and '.join(over)}", fix)


def _used(dump: Dump) -> dict[tuple[str, str], CardUse]:
    """What is held, by node and card."""
    used: dict[tuple[str, str], CardUse] = {}
    cards = cards_of(_nodes(dump))
    for pod in dump.pods:
        try:
            holding = parse_holding(pod, dump.vendors, cards)
        except WireError:
            continue  # `grants` says so
        if holding:
            for card, use in card_uses(holding.grant, holding.stages).items():
                used[holding.node, card] = used.get((holding.node, card), NO_USE) + use
    return used


def grants(dump: Dump) -> Iterator[Finding]:
    """Every bound pod that asks for cards holds a grant of cards that its node has."""
    nodes = tuple(_nodes(dump))
    cards, of_node = {node.name: {card.id for card in node.cards} for node in nodes}, cards_of(nodes)
    for pod in dump.pods:
        spec = at(pod, "spec")
        node = spec.get("nodeName")
        if not node or is_finished(pod):
            continue
        try:
            holding = parse_holding(pod, dump.vendors, of_node)
            asks = spec.get("schedulerName") == dump.scheduler and bool(
                parse_pod(pod, dump.names, dump.policy.defaults).containers
            )
        except WireError as error:
            again = "delete the pod: its controller creates another; only the scheduler may write grants"
            yield Finding(f"pod {name_of(pod)}: what it holds cannot be read: {error}", again)
            continue
        if asks and not holding:
            fix = "delete it, so that Kerf's scheduler places another: another scheduler bound it"
            yield Finding(
                f"pod {name_of(pod)} is on {node} and asks for cards, but has no {GRANT}: it cannot start", fix
            )
        held = {each.card for container in holding.grant.containers for each in container.slices} if holding else set()
        strange = sorted(held - cards[node]) if cards.get(node) else []
        if strange:
            fix = "delete the pod: the card was replaced or the node renamed"
            yield Finding(f"pod {name_of(pod)} holds cards that {node} does not have: {', '.join(strange)}", fix)


def hami(dump: Dump) -> Iterator[Finding]:
    """One device plugin per node, and no pod waits for a scheduler that does not run."""
    ours = _ours(dump)
    waiting: Counter[str] = Counter()
    for pod in dump.pods:
        spec = at(pod, "spec")
        if _is_hamis(pod) and spec.get("nodeName") in ours:
            yield Finding(
                f"node {spec['nodeName']}: HAMi's device plugin ({name_of(pod)}) runs beside Kerf's",
                "remove the node label that HAMi's DaemonSet selects (docs/migrate-from-hami.md, step 3)",
            )
        if spec.get("schedulerName") == "hami-scheduler" and not spec.get("nodeName"):
            waiting["hami-scheduler"] += 1
    if waiting and not _runs(dump.pods, "hami-scheduler"):
        yield Finding(
            f"{show(waiting['hami-scheduler'])} pods wait for hami-scheduler, which does not run",
            "delete them: their controllers create others, which Kerf's webhook takes"
            if dump.kerf_webhooks()
            else "start Kerf's webhook (docs/migrate-from-hami.md, step 2), then delete them",
        )


def _is_hamis(pod: Json) -> bool:
    return bool(at(pod, "metadata", "labels").get("app.kubernetes.io/component") == "hami-device-plugin")


def _ours(dump: Dump) -> set[str]:
    """The nodes that a device plugin of Kerf's has written an inventory of."""
    keys = {vendor.inventory_key for vendor in dump.vendors}
    return {name_of(node) for node in dump.nodes if keys & set(notes_of(node))}


def _runs(pods: tuple[Json, ...], component: str) -> bool:
    return any(
        at(pod, "metadata", "labels").get("app.kubernetes.io/component") == component
        and at(pod, "status").get("phase") == "Running"
        for pod in pods
    )


def _nodes(dump: Dump) -> Iterator[Node]:
    return (parse_node(node, dump.vendors) for node in dump.nodes)


def _number(amounts: object, name: str) -> int:
    text = str(amounts.get(name, "0")) if isinstance(amounts, Mapping) else "0"
    return int(text) if text.isascii() and text.isdigit() else 0


CHECKS: Mapping[str, Callable[[Dump], Iterator[Finding]]] = {
    "inventories": inventories,
    "strangers": strangers,
    "health": health,
    "recovery": pauses,
    "allocatable": allocatable,
    "over-commitment": overcommitment,
    "grants": grants,
    "hami": hami,
}
