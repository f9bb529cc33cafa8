"""What a container gets when it starts: its edits, its ledger, and the spec file that names them."""

from deviceplugin.core.check import part_of
from deviceplugin.core.edits import edits_of, limits_of, opts_out, render_specs
from deviceplugin.core.start import Start
from deviceplugin.gate.instances import Instances
from deviceplugin.gate.rules import Rules
from deviceplugin.state.files import Files
from deviceplugin.state.node import LocalNode
from kerf.kube.client import Json
from kerf.values.grant import Holding
from kerf.values.injection import NodeFiles, Terms
from kerf.values.slicing import alone_on
from kerf.wire.annotations import render_grant
from kerf.wire.cdi import Edits
from kerf.wire.limiter import render_ledger
from kerf.wire.resources import containers_of, is_privileged


class Outfits:
    """The caller decides whether a container may start, and holds the gate's lock while it writes."""

    def __init__(self, files: Files, node: LocalNode, rules: Rules, instances: Instances) -> None:
        self._files = files
        self._node = node
        self._rules = rules
        self._instances = instances

    def edits(self, pod: Json, holding: Holding, container: str, vendor: str) -> Edits:
        """One container's edits for its slices of one vendor's cards."""
        terms = self._terms(pod, container, self._rules.words_of(pod).priority)
        return self._of(holding, container, vendor, terms)[0]

    def write(
        self, pod: Json, holding: Holding, spec: tuple[str, str], starts: tuple[Start, ...], priority: int
    ) -> None:
        """The ledgers of the containers that start, the CDI spec `(file, vendor)`, and the pod's grant."""
        (file, vendor), devices = spec, []
        for start in starts:
            edits, ledger = self._of(holding, start.container, vendor, self._terms(pod, start.container, priority))
            self._files.write_ledger(holding.uid, start.container, ledger)
            devices += [(name, edits) for name in start.names]
        if devices:
            self._files.write_spec(file, render_specs(holding.pod, holding.uid, tuple(devices)))
        self._files.write_grant(holding.uid, render_grant(holding.grant))

    # ---- inside
    def _of(self, holding: Holding, container: str, vendor: str, terms: Terms) -> tuple[Edits, bytes]:
        """A container's edits for one vendor's cards, and its fresh ledger for its slices of this plugin's cards."""
        slices = part_of(holding, self._rules.served).grant.of(container)
        files = self._node_files(holding, container)
        ledger = self._files.ledger_path(holding.uid, container)
        own = tuple(piece for piece in slices if piece.vendor == vendor)
        edits = edits_of(own, ledger, files, terms, self._rules.vendors)
        return edits, render_ledger(limits_of(slices, files, terms))

    def _node_files(self, holding: Holding, container: str) -> NodeFiles:
        slices = {piece.card: piece for piece in holding.grant.of(container)}
        cards = [card for card in self._node.grantable(self._rules.policy()).values() if card.id in slices]
        shares = any(not alone_on(slices[card.id].cores, card) for card in cards)
        modes = self._node.modes
        daemons = {card.id: modes[card.id].daemon for card in cards if card.id in modes and modes[card.id].daemon}
        given = self._instances.of(holding.uid) if any(card.mig is not None for card in cards) else ()
        return self._files.node_files(cards, daemons if shares else {}, given)

    def _terms(self, pod: Json, container: str, priority: int) -> Terms:
        own = next((c for c, _ in containers_of(pod["spec"]) if c.get("name") == container), {})
        limited = not (self._rules.allow_disable and opts_out(own, self._rules.names))
        return Terms(self._rules.limiter_policy, priority, limited, is_privileged(own))
