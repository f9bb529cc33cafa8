"""Every decoder of what comes from outside, with documents that it reads, for property tests and `make fuzz`."""

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

import orjson
import yaml
from google.protobuf.message import DecodeError

from kerf.catalogue import shipped
from kerf.faults.replay import replay
from kerf.faults.servers import parse_sample
from kerf.faults.xid import XIDS
from kerf.pricing.document import parse_prices
from kerf.sizing.catalogue import parse_row, render_row
from kerf.sizing.estimate import estimate, read_model
from kerf.sizing.headers import parse_header, parse_index
from kerf.sizing.learned import evidence_of
from kerf.sizing.modelhub import name_of, specs_of
from kerf.sizing.named import parse_named
from kerf.sizing.request import VERSIONS, Ask
from kerf.sizing.verdicts import judge
from kerf.testing.builders import a_card, a_claim, a_claiming_pod, a_grant, a_mig_card
from kerf.values.ask import Stage
from kerf.values.health import SUSPECT
from kerf.values.learned import ServerPeak
from kerf.values.mig import Instance
from kerf.values.mps import Daemon, DaemonState, MpsReport, Wanted
from kerf.values.policy import Defaults
from kerf.values.selector import DeviceFacts, Term, holds
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.accepts import ACCEPTS, CHOSEN, WITH, parse_accepts, parse_chosen, render_chosen
from kerf.wire.accounts import parse_account
from kerf.wire.admission import parse_review
from kerf.wire.allocations import parse_answer as parse_allowed
from kerf.wire.allocations import parse_question as parse_allocation
from kerf.wire.allocations import render_answer as render_allowed
from kerf.wire.allocations import render_question as render_allocation
from kerf.wire.annotations import owned_annotation, owned_label, parse_grant, render_grant
from kerf.wire.cdi import parse_spec_devices
from kerf.wire.cel import parse_cel
from kerf.wire.choosing import (
    KindAnswer,
    KindQuestion,
    parse_kind,
    parse_question,
    render_kind,
    render_question,
)
from kerf.wire.claim_requests import known_classes, parse_ask
from kerf.wire.claim_specs import on_model, parse_claim_spec
from kerf.wire.claims import names_claims, parse_claim, with_claims
from kerf.wire.classes import selected_classes
from kerf.wire.engines import parse_engine
from kerf.wire.errors import WireError
from kerf.wire.extender import parse_bind_query, parse_nodes_query, parse_preempt_query
from kerf.wire.fleet import parse_assigned, parse_cluster, parse_record, parse_workload
from kerf.wire.fleet_places import parse_places
from kerf.wire.gangs import gang_of
from kerf.wire.gatewayrecords import parse_reported
from kerf.wire.gatewayusage import parse_usage_lines
from kerf.wire.hami import parse_allocated, parse_lock, parse_register
from kerf.wire.http import AnswerReader, RequestReader, parse_date
from kerf.wire.inventory import parse_inventory, render_inventory
from kerf.wire.json import at
from kerf.wire.learned import parse_learned, render_learned
from kerf.wire.limiter import parse_ledger
from kerf.wire.mig import geometry_json, parse_geometry
from kerf.wire.model_conditions import parse_condition
from kerf.wire.mps import parse_report, parse_wanted, render_report, render_wanted
from kerf.wire.multikueue import parse_kubeconfig, secret_of
from kerf.wire.objects import cards_without_grant, parse_holding, parse_node
from kerf.wire.policy import parse_policy
from kerf.wire.quota import held_to_nothing, parse_tenant
from kerf.wire.records import parse_records, render_records
from kerf.wire.resourcequota import parse_hard
from kerf.wire.resources import parse_pod, reach_of, stages_of
from kerf.wire.resourceslices import same_content, with_times
from kerf.wire.reviews import User, parse_access_review, parse_sign_in, parse_token_review
from kerf.wire.sessions import Session, parse_session, render_session, token_ends
from kerf.wire.subject import subject_of
from kerf.wire.top import NodeTop, TopCard, parse_top, render_top
from kerf.wire.traits import traits_of
from kerf.wire.usage import parse_usage
from kerf.wire.vendors import parse_vendor
from scheduler.core.eligible import is_meant
from scheduler.express.nodes import place_of
from scheduler.express.seen import see
from scheduler.fleet.claims import Claimable
from scheduler.fleet.claims import with_claims as with_claims_of_fleet
from scheduler.usage._pb import gateway_usage_pb2 as pb
from scheduler.usage.service import row_of
from tests.kerf.documents import (
    ACCOUNT,
    BIND,
    CDI,
    CHOICE,
    CLAIM_SPEC,
    CLAIMING_WORKLOAD,
    CLUSTER,
    CONDITION,
    DEVICE_CLASS,
    ENGINE,
    EXPRESS_POD,
    FILTER,
    FLEET_PLACES,
    FLEET_STATUS,
    FLEET_WORKLOAD,
    FULL_FILTER,
    FULL_PREEMPT,
    GANG_POD,
    GEOMETRY,
    INDEX,
    KUBECONFIG,
    LEARNED,
    LEDGER,
    MODELHUB,
    MODELS,
    NODE,
    PAGE_KEY,
    POD,
    POLICY,
    PREEMPT,
    PRICES,
    RECORD,
    REGISTER,
    REMOTE,
    RESOURCE_QUOTA,
    REVIEW,
    SAFETENSORS,
    SECRET,
    SELECTOR,
    SLICES,
    TENANT,
    USAGE,
    USAGE_REPORT,
    VENDOR,
)
from tests.kerf.sizing.models import a_gguf, read_gguf
from webhook.core.mutate import mutate
from webhook.core.settings import Settings


@dataclass(frozen=True, slots=True)
class Decoder:
    """`parse` takes what came over the wire and raises WireError alone."""

    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    binary: bool = False
    """Not JSON: nothing is replaced by name."""
    deep: bool = False
    """The services' own decoder reads it, which lets values nest to any depth."""


def changed_ledger(changes: Iterable[tuple[int, int]]) -> bytes:
    """A ledger with single bytes overwritten, at offsets modulo its size."""
    data = bytearray(LEDGER)
    for offset, value in changes:
        data[offset % len(data)] = value
    return bytes(data)


def _taught(text: str) -> None:
    """What a server teaches, from an annotation and a command, a word a line."""
    model, *words = text.split("\n")
    evidence_of(ServerPeak("c", model, "vllm-openai:v0.33.0", tuple(words), limit_mib=9, peak_mib=9), "H100", shipped())


def _text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    """Annotations are text; the API server lets no other bytes through."""
    return lambda body: parse(body.decode(errors="surrogateescape"))


def _object(parse: Callable[[dict[str, object]], object]) -> Callable[[bytes], object]:
    """Objects come decoded from the client or the services; what is no object is refused there."""

    def read(body: bytes) -> object:
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        return parse(found) if isinstance(found, dict) else None

    return read


def _yaml(parse: Callable[[object], object]) -> Callable[[bytes], object]:
    def read(body: bytes) -> object:
        try:
            found = yaml.load(body, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except (yaml.YAMLError, ValueError, RecursionError, OverflowError):
            return None  # kerf.config.load says so
        return parse(found)

    return read


def _pod(pod: dict[str, object]) -> object:
    parse_pod(pod, NAMES, Defaults())
    spec = pod.get("spec")
    return stages_of(spec) if isinstance(spec, dict) else None


def _claim(item: dict[str, object]) -> object:
    claim = parse_claim(item)
    return with_claims(a_claiming_pod(main=["c"]), {claim.key: claim}, {"GPU-1": a_card(1)}, "nvidia")


def _claiming(pod: dict[str, object]) -> object:
    claim = parse_claim(a_claim("c", ("gpu-0", 4096, 20)))
    return names_claims(pod) and with_claims(pod, {claim.key: claim}, {}, "nvidia")


def _claim_ask(item: dict[str, object]) -> object:
    """The document is a claim and, to the next one, a class."""
    return parse_ask(item, known_classes([item]))


def _selector(parse: Callable[[str], Term]) -> Callable[[bytes], object]:
    """A selector is read and held against a device."""
    facts = DeviceFacts("gpu.kerf.dev", {"model": "NVIDIA H100", "index": 3}, {"memory": Fraction(2**30)})

    def read(text: str) -> object:
        try:
            term = parse(text)
        except ValueError as error:
            raise WireError("expression", text, str(error)) from error
        return holds(term, facts)

    return _text(read)


def _claim_spec(spec: dict[str, object]) -> object:
    asks = parse_claim_spec(spec, "spec", known_classes())
    return asks == parse_claim_spec(on_model(spec, "H100"), "spec", known_classes())


def _fleet_workload(document: object) -> object:
    return with_claims_of_fleet(parse_workload(document), Claimable(lambda _: {"spec": {"spec": CLAIM_SPEC}}))


def _express(pod: dict[str, object]) -> object:
    words = frozenset(name for names in NAMES for name in names.all)
    return see("ADDED", pod, words, frozenset())  # it reads every pod: one that cannot be read is not the lane's


def _pod_words(pod: dict[str, object]) -> object:
    """What is read of a pod beside its ask: gang, scopes, cards without a grant, and whether a node is meant for it."""
    spec, meant = at(pod, "spec"), is_meant(reach_of(pod, NAMES[:1]).nodes, parse_node(NODE, VENDORS))
    return gang_of(at(pod, "metadata"), spec), traits_of(spec), cards_without_grant(pod, VENDORS), meant


def _node(node: dict[str, object]) -> object:
    return parse_node(node, VENDORS)  # it reads every node, with its problem


def _admit(body: bytes) -> object:
    return mutate(parse_review(body), Settings(VENDORS))


def _model(config: dict[str, object]) -> object:
    """A config is read and, where it can be, estimated for both engines."""
    model = read_model(config)
    return [estimate(model, Ask(runtime=runtime, concurrency=2, card_mib=2**24)) for runtime in VERSIONS]


def _row(document: dict[str, object]) -> object:
    """A row is read and rendered; its config is read where it is used."""
    return parse_row(render_row(parse_row(document, "row")), "row")


def _entries(document: object) -> object:
    """Entries of a catalogue are judged one by one, and a wrong one is no error."""
    model = read_model(MODELS[0])
    return [judge(item, name_of(item, i), lambda _: model) for i, item in enumerate(specs_of([document]))]


def _owned(text: str) -> object:
    return owned_annotation(text), owned_label(text), selected_classes({text: "true"})


def _patches(body: bytes) -> object:
    """Three bytes make one change of a ledger: a fuzzer would never find the magic of a file of that size."""
    changes = [(int.from_bytes(body[i : i + 3], "little"), body[i + 3]) for i in range(0, len(body) - 3, 4)]
    return parse_ledger(changed_ledger(changes))


def _accepts(text: str) -> object:
    return parse_accepts({ACCEPTS: text}, NAMES)


def _accepts_with(text: str) -> object:
    return parse_accepts({ACCEPTS: "nvidia.com/gpu", WITH: text}, NAMES)


def _answer(body: bytes) -> object:
    return AnswerReader().feed(body)


def _request(body: bytes) -> object:
    reader = RequestReader(1 << 20)
    reader.feed(body)
    return reader.head() and reader.content()


def _kubeconfig(body: bytes) -> object:
    return parse_kubeconfig({"data": {"kubeconfig": base64.b64encode(body).decode()}})


def _usage_report(body: bytes) -> object:
    """What a gateway reports; what is no message of the protocol is refused by gRPC."""
    try:
        request = pb.UsageReportRequest.FromString(body)
    except DecodeError:
        return None
    return row_of(request)


def _json(*documents: object) -> tuple[bytes, ...]:
    return tuple(json.dumps(document).encode() for document in documents)


STORED_CLAIM = {"metadata": {"resourceVersion": "7"}}
DECODERS: dict[str, Decoder] = {
    "claim": Decoder(_object(_claim), (orjson.dumps(a_claim("c", ("gpu-0", 4096, 20), ("card-1", None, 0))),)),
    "date": Decoder(_text(parse_date), (b"Sat, 28 Nov 2026 08:52:00 GMT",), binary=True),
    "claiming-pod": Decoder(_object(_claiming), (orjson.dumps(a_claiming_pod(main=["c"])),)),
    "claim-ask": Decoder(_object(_claim_ask), _json({"metadata": {"name": "c"}, "spec": CLAIM_SPEC}, DEVICE_CLASS)),
    "cel": Decoder(
        _selector(parse_cel), (SELECTOR.encode(), b"[1, 'a'].exists(x, x.?y == optional.none())"), binary=True
    ),
    "model-condition": Decoder(
        _selector(parse_condition), (CONDITION.encode(), b"[1].all(x, x > 0 ? true : false)"), binary=True
    ),
    "claim-spec": Decoder(_object(_claim_spec), _json(CLAIM_SPEC)),
    "resource-slice": Decoder(_object(lambda item: same_content(item, with_times(item, item))), _json(*SLICES)),
    "inventory": Decoder(
        _text(parse_inventory),
        (render_inventory((a_card(physical_mib=5, health=SUSPECT), a_mig_card(1, Instance(6, 1, 19)))).encode(),),
    ),
    "mps-wanted": Decoder(
        _text(lambda text: render_wanted(parse_wanted(text))),
        (render_wanted(Wanted((Daemon("GPU-0", ("GPU-0",)),), (("GPU-0", "GPU-0"),))).encode(),),
    ),
    "mps-report": Decoder(
        _text(lambda text: render_report(parse_report(text))),
        (render_report(MpsReport(5, "", (DaemonState("GPU-0", True, "", 1, (42,), 3),))).encode(),),
    ),
    "top": Decoder(
        _text(parse_top),
        (render_top(NodeTop((TopCard("GPU-0", "H100", 9, 5, 1, True),), overuse=("too much",))).encode(),),
    ),
    "grant": Decoder(_text(lambda text: render_grant(parse_grant(text))), (render_grant(a_grant()).encode(),)),
    "hami-register": Decoder(
        _text(lambda text: parse_register(text, "hami.io/node-nvidia-register", "nvidia")), _json(REGISTER)
    ),
    "hami-allocated": Decoder(
        _text(lambda text: parse_allocated(text, "hami.io/x", NAMES[0], (("main", Stage.APP),))),
        (b"GPU-0,NVIDIA,8000,30:;", b"GPU-0,NVIDIA,1,1:GPU-1,NVIDIA,1,1:;;"),
        binary=True,
    ),
    "annotation-names": Decoder(_text(_owned), (b"kerf.dev/grant", b"class.kerf.dev/h100"), binary=True),
    "cdi": Decoder(_text(lambda text: parse_spec_devices(text, "nvidia.com/gpu")), _json(CDI)),
    "review": Decoder(parse_review, _json(REVIEW), deep=True),
    "admission": Decoder(
        _admit, _json({**REVIEW, "request": {**REVIEW["request"], "operation": "CREATE", "object": POD}}), deep=True
    ),
    "filter": Decoder(parse_nodes_query, _json(FILTER, FULL_FILTER), deep=True),
    "http-answer": Decoder(_answer, (b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}",), binary=True),
    "http-request": Decoder(
        _request, (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",), binary=True
    ),
    "bind": Decoder(parse_bind_query, _json(BIND), deep=True),
    "preempt": Decoder(parse_preempt_query, _json(PREEMPT, FULL_PREEMPT), deep=True),
    "pod": Decoder(_object(_pod), _json(POD), deep=True),
    "holding": Decoder(_object(lambda pod: parse_holding(pod, VENDORS)), _json(POD), deep=True),
    "node": Decoder(_object(_node), _json(NODE), deep=True),
    "express-pod": Decoder(_object(_express), _json(POD, EXPRESS_POD), deep=True),
    "express-node": Decoder(_object(place_of), _json(NODE), deep=True),
    "policy": Decoder(_yaml(parse_policy), _json(POLICY)),
    "model-row": Decoder(_object(_row), _json({"name": "a", "repository": "o/a", "config": MODELS[0]}), deep=True),
    "model-annotation": Decoder(
        _text(parse_named), (b"qwen3-8b;max-len=8192;concurrency=4", b"o/a;container=x"), binary=True
    ),
    "accepts": Decoder(
        _text(_accepts), (b"nvidia.com/gpu:A100|H100;memory=24Gi;cores=30,hygon.com/dcunum",), binary=True
    ),
    "accepts-with": Decoder(
        _text(_accepts_with),
        _json({"nvidia.com/gpu": {"image": "x", "command": ["c"], "args": ["a"], "env": {"A": "1"}, "model": "m"}}),
    ),
    "chosen": Decoder(_text(lambda text: parse_chosen({CHOSEN: text})), (render_chosen(CHOICE).encode(),)),
    "allocation-question": Decoder(
        parse_allocation, (render_allocation(a_claim("c", ("gpu-0", 4096, 20)), STORED_CLAIM, keep=True),), deep=True
    ),
    "allocation-answer": Decoder(parse_allowed, (render_allowed(""), render_allowed("no room"))),
    "kind-question": Decoder(parse_question, (render_question(KindQuestion((("nvidia.com/gpu", POD),))),), deep=True),
    "kind-answer": Decoder(parse_kind, (render_kind(KindAnswer("nvidia.com/gpu", "why", True, "p")),), deep=True),
    "prices": Decoder(_yaml(parse_prices), _json(PRICES)),
    "usage": Decoder(_object(parse_usage), _json(USAGE), deep=True),
    "records": Decoder(
        _text(parse_records),
        (render_records((RECORD,)).encode(),),
    ),
    "learned": Decoder(_text(parse_learned), (render_learned(LEARNED).encode(),)),
    "taught": Decoder(
        _text(_taught), (b"qwen3-8b\nvllm\nserve\n--kv-cache-memory-bytes\n99", b"qwen3-8b"), binary=True
    ),
    "engine-page": Decoder(
        _text(lambda text: (parse_engine(text, "vllm"), parse_engine(text, "sglang"))),
        (b'vllm:prompt_tokens_total{engine="0",model_name="m"} 5.0\nsglang:token_usage{tp_rank="0"} 0.5\n',),
        binary=True,
    ),
    "gateway-record": Decoder(_yaml(parse_reported), _json({"spec": {"hour": "2026-11-27T16:00:00Z", "rows": [{}]}})),
    "gateway-usage": Decoder(
        _text(lambda t: list(parse_usage_lines(t))), _json({"user": "u", "model": "m", "usage": {"cached_tokens": 1}})
    ),
    "subject": Decoder(_object(subject_of), _json(POD, ENGINE), deep=True),
    "cluster": Decoder(_yaml(parse_cluster), _json(CLUSTER)),
    "fleet-workload": Decoder(_yaml(_fleet_workload), _json(FLEET_WORKLOAD, CLAIMING_WORKLOAD)),
    "fleet-places": Decoder(_yaml(parse_places), _json(FLEET_PLACES)),
    "fleet-status": Decoder(_object(lambda item: (parse_record(item), parse_assigned(item))), _json(FLEET_STATUS)),
    "resource-quota": Decoder(_object(lambda item: parse_hard([item], NAMES)), _json(RESOURCE_QUOTA), deep=True),
    "pod-words": Decoder(_object(_pod_words), _json(POD, GANG_POD, EXPRESS_POD), deep=True),
    "broken-tenant": Decoder(_object(held_to_nothing), _json(TENANT), deep=True),
    "tenant": Decoder(_yaml(parse_tenant), _json(TENANT)),
    "model": Decoder(_object(_model), _json(*MODELS)),
    "modelhub": Decoder(_yaml(_entries), _json(MODELHUB)),
    "safetensors": Decoder(lambda body: parse_header(body, "x.safetensors"), _json(SAFETENSORS)),
    "gguf": Decoder(read_gguf, (a_gguf(),), binary=True),
    "safetensors-index": Decoder(_object(lambda found: parse_index(found, "x.json")), _json(INDEX)),
    "kernel-log": Decoder(
        _text(lambda text: replay(text.split("\n"), XIDS, {})),
        (
            b"3,1,5678901,-;NVRM: Xid (PCI:0000:5d:00 GPU-I:05): 94, pid=7, Contained\n SUBSYSTEM=pci",
            b"[Wed Dec 11 13:23:01 2024] NVRM: The NVIDIA GPU 0000:5d:00.0\n   NVRM: fallen off the bus",
            b"Dec 11 13:23:01 n kernel: NVRM: Xid (0000:5d:00): 154, recovery action changed from 0x0 (a) to 0x1 (b)",
            b"2024-12-11T13:23:01,123456+01:00 NVRM: Xid (005d:00): 79",
        ),
        binary=True,
    ),
    "token-review": Decoder(
        _object(lambda item: (parse_token_review(item), parse_access_review(item))),
        _json({"status": {"authenticated": True, "user": {"username": "u", "groups": ["g"], "extra": {"k": ["v"]}}}}),
        deep=True,
    ),
    "sign-in": Decoder(_object(parse_sign_in), _json({"token": "t"})),
    "session": Decoder(
        _text(lambda text: (parse_session(text, (PAGE_KEY,), 0.0), token_ends(text))),
        (render_session(Session(User("u", "1", ("g",), (("k", ("v",)),)), 10), PAGE_KEY).encode(),),
        binary=True,
    ),
    "account": Decoder(_object(parse_account), _json(ACCOUNT), deep=True),
    "mig-geometry": Decoder(_yaml(lambda item: geometry_json(parse_geometry(item, "mig"))), _json(GEOMETRY)),
    "card-vendor": Decoder(_yaml(parse_vendor), _json(VENDOR)),
    "worker-secret": Decoder(_object(parse_kubeconfig), _json(SECRET), deep=True),
    "worker-kubeconfig": Decoder(_kubeconfig, _json(KUBECONFIG)),
    "worker-cluster": Decoder(_object(secret_of), _json(REMOTE), deep=True),
    "usage-report": Decoder(_usage_report, (USAGE_REPORT.SerializeToString(),), binary=True),
    "server-page": Decoder(
        _text(lambda text: parse_sample(0.0, True, text)),
        (b'vllm:generation_tokens_total{model_name="m"} 5.0\nvllm:num_requests_running 1\n',),
        binary=True,
    ),
    "node-lock": Decoder(_text(parse_lock), (b"2026-01-01T00:00:00Z,namespace,pod",), binary=True),
    "ledger": Decoder(parse_ledger, (LEDGER,), binary=True),
    "ledger-bytes": Decoder(_patches, (b"", b"\x00\x02\x00\x01"), binary=True),
}
