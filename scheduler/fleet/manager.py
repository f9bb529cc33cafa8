"""The manager's loop: look at every cluster, decide for all workloads, write the decision, then hand it over.

Whatever it decides is written to its own API server before any cluster hears of it, so it may be killed at any moment:
the next round, of this or another process, starts from what is written. A write names the version it was decided from;
where something changed meanwhile, nothing happens in this round.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kerf.kube.client import Json, Kube
from kerf.kube.errors import Forbidden, KubeError, NotFound
from kerf.obs.loop import Loop, run_every
from kerf.pricing.prices import PriceList
from kerf.values.fleet import Assigned, ClusterRecord, ClusterSpec, FleetSettings, FleetWorkload, Phase
from kerf.values.policy import SchedulingPolicy
from kerf.values.vendor import ResourceNames
from kerf.wire.errors import WireError
from kerf.wire.fleet import (
    CLUSTERS,
    WORKLOADS,
    parse_assigned,
    parse_cluster,
    parse_record,
    parse_workload,
    render_assigned,
    render_record,
    slug,
)
from kerf.wire.json import at
from kerf.wire.multikueue import parse_kubeconfig
from scheduler.fleet.assign import Decision, assign, rebalance
from scheduler.fleet.claims import API as CLAIM_API
from scheduler.fleet.claims import Claimable, with_claims
from scheduler.fleet.handover import hand_over, remove_epochs
from scheduler.fleet.member import Member
from scheduler.fleet.places import follows_plan, listed
from scheduler.fleet.queued import QueuedWorkloads, bounded
from scheduler.fleet.quotas import SplitTenants
from scheduler.fleet.records import as_of, reliability, seen, takes_work
from scheduler.fleet.render import render
from scheduler.fleet.report import cluster_status, price_of, stamped, workload_status
from scheduler.fleet.shapes import Terms
from scheduler.fleet.view import View
from scheduler.solver.fleet.problem import MICRO

_LOG = logging.getLogger("kerf.fleet")
LOOP = Loop("fleet", every_s=2.0, expected=(KubeError,), longest_pause_s=5.0)
PATIENCE_S = 120.0
"""A replica that its cluster's own scheduler does not place for so long is placed elsewhere."""
AVOID_S = 300.0
"""A cluster that did not place a workload's replica gets no more of them for so long."""
CONTACT_EVERY_S = 10.0
"""How often the time of the last contact alone is written."""
ROUND_S = 10.0
"""How long a round may take in which clusters are slow to answer."""
NAME = "kerf"
"""The fleet's name: one manager cluster has one."""


@dataclass(slots=True)
class _Known:
    """A member, and the version of the Secret that it was made from."""

    member: Member
    version: str


@dataclass(slots=True)
class _Waits:
    """Since when a workload's part has replicas that are not bound, and until when the cluster is avoided."""

    since: dict[tuple[str, str], float] = field(default_factory=dict)
    until: dict[tuple[str, str], float] = field(default_factory=dict)


class Manager:
    """One thread; run it at the leader alone. `connect` follows a cluster by its kubeconfig."""

    def __init__(
        self,
        kube: Kube,
        connect: Callable[[str, Mapping[str, Any]], Member],
        terms: Callable[[], tuple[SchedulingPolicy, PriceList]],
        names: tuple[ResourceNames, ...],
        namespace: str = "kerf-system",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kube = kube
        self._connect = connect
        self._terms = terms
        self._names = names
        self._namespace = namespace
        self._clock = clock
        self._began = self._looked = clock()
        self._members: dict[str, _Known] = {}
        self._broken: dict[str, str] = {}
        self._waits = _Waits()
        self._tenants = SplitTenants(kube, NAME)
        self._queued = QueuedWorkloads(kube, NAME, names)

    def run(self, stop: threading.Event) -> None:
        """Round after round until stopped. What runs in the clusters goes on without it."""
        run_every(LOOP, self.run_once, stop)
        for known in self._members.values():
            known.member.stop()
        self._members.clear()

    def run_once(self) -> None:
        """One round. Raises KubeError where its own API server does not answer."""
        policy, prices = self._terms()
        self._notice_absence(policy.fleet)
        try:
            clusters, _ = self._kube.list(CLUSTERS)
            workloads, _ = self._kube.list(WORKLOADS)
        except NotFound:
            return  # the kinds are not installed: there is no fleet
        terms = Terms(self._names, policy, prices)
        views = self._look(clusters, policy.fleet)
        decided = self._decide(workloads, views, terms)
        spared = {slug(key_of(item)) for item in workloads} - {slug(each.workload.key) for each in decided}
        self._hand_over(decided, views, spared)
        self._queued.run_once([(each.workload, each.parts) for each in decided], views, spared)
        kubes = {name: known.member.kube for name, known in self._members.items()}

        def cost(namespaces: tuple[str, ...]) -> float:
            mine = [key for key in map(key_of, workloads) if key.partition("/")[0] in namespaces]
            return sum(price_of(key, views, terms) for key in mine) / MICRO

        self._tenants.run_once(views, kubes, cost)

    # ---- clusters
    def _notice_absence(self, settings: FleetSettings) -> None:
        """After a time in which this machine slept, say, clusters get as long to answer as after a start."""
        now = self._clock()
        if now - self._looked > max(settings.stale_after_s, settings.lost_after_s - ROUND_S):
            self._began = now
        self._looked = now

    def _look(self, clusters: list[dict[str, Any]], settings: FleetSettings) -> tuple[View, ...]:
        self._forget({str(item["metadata"]["name"]) for item in clusters})
        views = []
        for item in clusters:
            name = str(item["metadata"]["name"])
            try:
                spec = parse_cluster(item)
            except WireError as error:
                _LOG.warning("cluster %s: %s", name, error)
                continue
            views.append(self._look_at(spec, item, settings))
        return tuple(views)

    def _look_at(self, spec: ClusterSpec, item: Json, settings: FleetSettings) -> View:
        """One cluster's view, once what became of it is written. Until then it is what it was."""
        now, written = self._clock(), parse_record(item)
        member = self._member(spec)
        contact = member.answered() if member is not None else 0.0
        before = as_of(replace(written, contact=max(written.contact, contact)), settings, now)
        answers = member is not None and contact > 0 and now - contact <= settings.stale_after_s
        clean = True
        if answers and member is not None and before.phase in (Phase.LOST, Phase.RETURNED, Phase.JOINING):
            try:
                clean = remove_epochs(member.kube, NAME, spec.name, before.epoch)
            except KubeError as error:
                _LOG.warning("cluster %s: %s", spec.name, error)
                clean, answers = False, isinstance(error, Forbidden)
        record = seen(before, settings, now, answers=answers, clean=clean, watched_s=now - self._began)
        trust = reliability(record, settings, now)
        nodes, states, pods = member.seen() if member is not None else ((), (), ())
        knows, lacks = member is None or member.knows_claims(), member.lacks() if member is not None else ()
        beside = member.neighbours() if member is not None else {}
        view = View(spec, record, nodes, states, pods, takes_work(record, settings, now), trust, lacks, knows, beside)
        status = {**render_record(record), **cluster_status(view, settings, self._broken.get(spec.name, ""))}
        if not self._write_cluster(item, written, record, status):
            usable = before.usable and record.usable
            return replace(view, record=before, takes_work=usable and view.takes_work)
        return view

    def _write_cluster(self, item: Json, before: ClusterRecord, record: ClusterRecord, status: dict[str, Any]) -> bool:
        old = at(item, "status")
        fresh = stamped(status, old, self._clock())
        volatile = {"lastContact"}
        same = {k: v for k, v in fresh.items() if k not in volatile} == {
            k: old.get(k) for k in fresh if k not in volatile
        }
        if same and record.contact - before.contact < CONTACT_EVERY_S:
            return True
        return self._write(f"{CLUSTERS}/{item['metadata']['name']}/status", item, fresh)

    def _write(self, path: str, item: Json, status: dict[str, Any]) -> bool:
        """Write a status over exactly the version that was read; whether that is done."""
        body = {"metadata": {"resourceVersion": item["metadata"]["resourceVersion"]}, "status": status}
        try:
            self._kube.patch(path, body)
        except KubeError as error:
            _LOG.warning("%s: %s; the next round decides again", path, error)
            return False
        return True

    def _member(self, spec: ClusterSpec) -> Member | None:
        """The connection to a cluster, made again when its Secret has changed."""
        known = self._members.get(spec.name)
        try:
            secret = self._kube.get(f"/api/v1/namespaces/{self._namespace}/secrets/{spec.secret}")
            version = str(secret["metadata"].get("resourceVersion", ""))
            if known is not None and known.version == version:
                return known.member
            fresh = _Known(self._connect(spec.name, parse_kubeconfig(secret)), version)
        except (KubeError, WireError) as error:
            self._broken[spec.name] = f"Secret {self._namespace}/{spec.secret}: {error}"
            return known.member if known is not None else None
        if known is not None:
            known.member.stop()
        self._broken.pop(spec.name, None)
        self._members[spec.name] = fresh
        return fresh.member

    def _forget(self, names: set[str]) -> None:
        for name in [name for name in self._members if name not in names]:
            self._members.pop(name).member.stop()

    # ---- workloads
    def _decide(self, items: list[dict[str, Any]], views: tuple[View, ...], terms: Terms) -> list[Decision]:
        """Decide and write; the decisions that are written."""
        workloads, by_key = self._read(items)
        before = {key: parse_assigned(item) for key, item in by_key.items()}
        decisions = assign(workloads, before, views, terms, self._avoid(before, workloads, views))
        decisions = rebalance(decisions, views, terms, terms.policy.fleet)
        return [
            each
            for each in decisions
            if self._write_workload(by_key[each.workload.key], each, views, terms) and not each.problem
        ]

    def _read(self, items: list[dict[str, Any]]) -> tuple[list[FleetWorkload], dict[str, dict[str, Any]]]:
        """The workloads to decide for. What has a problem, or cannot be judged in this round, stays as it is."""
        workloads: list[FleetWorkload] = []
        queues = self._queued.queues() if any(at(item, "spec").get("queue") for item in items) else None
        for item in items:
            try:
                one: FleetWorkload | str | None = parse_workload(item)
            except WireError as error:
                one = str(error)
            if isinstance(one, FleetWorkload) and one.queue:
                one = bounded(one, queues) if queues is not None else None
            if isinstance(one, FleetWorkload):
                one = self._with_claims(one)
            if isinstance(one, str):
                self._write_problem(item, one)
            elif one is not None and not item["metadata"].get("deletionTimestamp"):
                workloads.append(one)
        keys = {one.key for one in workloads}
        return workloads, {key_of(item): item for item in items if key_of(item) in keys}

    def _with_claims(self, one: FleetWorkload) -> FleetWorkload | str | None:
        """The workload with what its claims ask for; None where its templates cannot be read in this round."""

        def template(name: str) -> Json | None:
            try:
                return self._kube.get(f"{CLAIM_API}/namespaces/{one.namespace}/resourceclaimtemplates/{name}")
            except NotFound:
                return None

        try:
            return with_claims(one, Claimable(template))
        except WireError as error:
            return str(error)
        except Forbidden as error:
            return f"spec.template.spec.resourceClaims: the manager may not read ResourceClaimTemplates ({error})"
        except KubeError as error:
            _LOG.warning("templates of claims of %s: %s", one.key, error)
            return None

    def _write_workload(self, item: Json, decision: Decision, views: tuple[View, ...], terms: Terms) -> bool:
        status = workload_status(decision, views, terms)
        status["assignments"] = render_assigned(decision.parts)
        old = at(item, "status")
        fresh = stamped(status, old, self._clock())
        meta = item["metadata"]
        path = f"{WORKLOADS.rpartition('/')[0]}/namespaces/{meta['namespace']}/fleetworkloads/{meta['name']}/status"
        return all(old.get(key) == value for key, value in fresh.items()) or self._write(path, item, fresh)

    def _write_problem(self, item: Json, sentence: str) -> None:
        meta = item["metadata"]
        path = f"{WORKLOADS.rpartition('/')[0]}/namespaces/{meta['namespace']}/fleetworkloads/{meta['name']}/status"
        condition = {"type": "Placed", "status": "False", "reason": "Unreadable", "message": sentence}
        seen = {"observedGeneration": int(meta.get("generation") or 0), "conditions": [condition]}
        status = stamped(seen, at(item, "status"), self._clock())
        if any(at(item, "status").get(key) != value for key, value in status.items()):
            self._write(path, item, status)

    def _avoid(
        self, before: Mapping[str, tuple[Assigned, ...]], workloads: list[FleetWorkload], views: tuple[View, ...]
    ) -> dict[str, frozenset[str]]:
        """Clusters whose own scheduler has not placed a workload's replicas for a while, by workload."""
        now, waits = self._clock(), self._waits
        waiting = set()
        for one in workloads:
            for view in views:
                mine = [p for p in before[one.key] if p.cluster == view.name and p.epoch == view.record.epoch]
                bound = sum(n for _, n, _ in view.units(one.key, one.group_size).values())
                if view.takes_work and bound < sum(part.replicas for part in mine):
                    waiting.add((one.key, view.name))
        waits.since = {key: waits.since.get(key, now) for key in waiting}
        waits.until = {key: until for key, until in waits.until.items() if until > now}
        for key, since in waits.since.items():
            if now - since > PATIENCE_S:
                waits.until[key] = now + AVOID_S
        found: dict[str, frozenset[str]] = {}
        for workload, cluster in waits.until:
            found[workload] = found.get(workload, frozenset()) | {cluster}
        return found

    # ---- hand-over
    def _hand_over(self, decided: list[Decision], views: tuple[View, ...], spared: set[str]) -> None:
        for view in views:
            known = self._members.get(view.name)
            if known is None or view.record.phase not in (Phase.LIVE, Phase.RESTING):
                continue
            wanted: dict[str, Json] = {}
            mine = [
                (each, part)
                for each in decided
                for part in each.parts
                if part.cluster == view.name and part.epoch == view.record.epoch
            ]
            for each, part in mine:  # places first: the scheduler there should know them when the pods come
                if follows_plan(each.workload):
                    wanted |= dict([listed(each.workload, part, NAME, view, each.places)])
            for each, part in mine:
                if not each.workload.queue:
                    wanted |= render(each.workload, part, NAME, self._names)
            try:
                hand_over(known.member.kube, NAME, wanted, spared)
            except KubeError as error:
                _LOG.warning("cluster %s: %s", view.name, error)


def key_of(item: Json) -> str:
    """`namespace/name` of an object."""
    return f"{item['metadata'].get('namespace') or 'default'}/{item['metadata']['name']}"
