"""The limiter's ledger file and arbiter file as values: the Python mirror of limiter/include/kerf/ledger.h.

Pure: bytes in, values out. `kerf.probes.ledger` does the file work. Every record is one table of (name, struct code);
a test compiles the C header and compares each offset with what these tables say.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from kerf.wire.errors import WireError

Policy = Literal["cap", "weight", "priority"]
_Fields = tuple[tuple[str, str], ...]

LEDGER_MAGIC: Final = int.from_bytes(b"KERFLEDG", "little")
ARBITER_MAGIC: Final = int.from_bytes(b"KERFTURN", "little")
LEDGER_ABI: Final = 1
ARBITER_ABI: Final = 2
LEDGER_BYTES: Final = 65536
NODE_ARBITER_BYTES: Final = 12288
CARDS_MAX: Final = 16
SLOTS: Final = 108
UNLIMITED: Final = 2**64 - 1
CHARGED_MASK: Final = 2**44 - 1
LOCAL_TENANTS: Final = 1
LOCAL_MEMBERS: Final = 20
NODE_TENANTS: Final = 32
NODE_MEMBERS: Final = 128
ROUND_US: Final = 30_000

POLICIES: Final[tuple[Policy, ...]] = ("cap", "weight", "priority")
KINDS: Final = ("device", "managed", "pool", "vmm", "array", "graph", "overhead", "spare")
EVENTS: Final = (
    "unknown_abi",
    "no_slot",
    "no_arbiter",
    "no_marker",
    "turn_taken",
    "process_lost",
    "overhead_over",
    "no_overhead",
    "unknown_card",
    "table_full",
    "free_mismatch",
    "uncapped_work",
    "untimed_work",
)

HEADER: Final[_Fields] = (
    ("magic", "Q"), ("abi", "I"), ("bytes", "I"), ("generation", "Q"), ("card_count", "I"), ("slot_count", "I"),
    ("policy", "I"), ("priority", "I"), ("flags", "I"), ("ready", "I"), ("reserved", "80s"), ("events", "16Q"),
)  # fmt: skip
CARD: Final[_Fields] = (
    ("uuid", "64s"), ("memory_limit", "Q"), ("cores", "I"), ("weight", "I"), ("flags", "I"), ("reserved0", "I"),
    ("reserved1", "40s"),
    ("charged", "Q"), ("peak", "Q"), ("denied", "Q"), ("reserved2", "40s"),
    ("busy_ns", "Q"), ("throttled_ns", "Q"), ("launches", "Q"), ("reserved3", "40s"),
    ("measured_permille", "I"), ("reserved4", "I"), ("measured_at_ns", "Q"), ("window_start_ns", "Q"),
    ("window_length_ns", "Q"), ("window_permille", "I"), ("reserved5", "I"), ("foreign_bytes", "Q"),
    ("reserved6", "16s"), ("arbiter", "192s"),
)  # fmt: skip
ARBITER: Final[_Fields] = (
    ("magic", "Q"), ("abi", "I"), ("tenant_count", "I"), ("member_count", "I"), ("period_us", "I"), ("turn", "Q"),
    ("since_ns", "Q"), ("vclock", "Q"), ("bell", "I"), ("reserved0", "I"), ("gang", "Q"),
)  # fmt: skip
TENANT: Final[_Fields] = (
    ("id", "Q"), ("weight", "I"), ("priority", "I"), ("vtime", "Q"), ("balance_ns", "q"), ("epoch_ns", "Q"),
    ("moved_ns", "Q"), ("seen_ns", "Q"), ("active_ns", "Q"),
)  # fmt: skip
MEMBER: Final[_Fields] = (
    ("token", "Q"), ("heartbeat_ns", "Q"), ("tenant", "I"), ("want", "I"), ("pid", "i"), ("waits", "I"),
    ("launches", "Q"), ("in_flight_ns", "Q"), ("synced_ns", "Q"), ("step_ns", "Q"),
)  # fmt: skip
SLOT: Final[_Fields] = (
    ("pid", "i"), ("host_pid", "i"), ("start", "Q"), ("busy_ns", "Q"), ("stays", "I"), ("seq", "H"), ("ack", "H"),
    ("kinds", "8Q"), ("comm", "16s"), ("intent", "Q"), ("target", "Q"), ("life", "64s"), ("bytes", "16Q"),
)  # fmt: skip


class _Record:
    """One C struct: its size, the offset of every field, and how to read and write it."""

    def __init__(self, fields: _Fields) -> None:
        self._structs = {name: struct.Struct("<" + code) for name, code in fields}
        self.offsets: dict[str, int] = {}
        self.size = 0
        for name, packer in self._structs.items():
            self.offsets[name] = self.size
            self.size += packer.size

    def numbers(self, data: bytes, base: int, name: str) -> tuple[int, ...]:
        """An array field of the record that starts at `base`."""
        return self._structs[name].unpack_from(data, base + self.offsets[name])

    def number(self, data: bytes, base: int, name: str) -> int:
        """A number field of the record that starts at `base`."""
        return self.numbers(data, base, name)[0]

    def raw(self, data: bytes, base: int, name: str) -> bytes:
        """The bytes of a field of the record that starts at `base`."""
        at = base + self.offsets[name]
        return data[at : at + self._structs[name].size]

    def write(self, data: bytearray, base: int, **values: int | bytes) -> None:
        """Set fields of the record that starts at `base`; short bytes are padded with NUL."""
        for name, value in values.items():
            self._structs[name].pack_into(data, base + self.offsets[name], value)


RECORDS: Final = {
    "header": _Record(HEADER),
    "card": _Record(CARD),
    "arbiter": _Record(ARBITER),
    "tenant": _Record(TENANT),
    "member": _Record(MEMBER),
    "slot": _Record(SLOT),
}
_LOCAL_ARBITER_BYTES = (
    RECORDS["arbiter"].size + LOCAL_TENANTS * RECORDS["tenant"].size + LOCAL_MEMBERS * RECORDS["member"].size
)
CARDS_AT: Final = RECORDS["header"].size
ARBITERS_AT: Final = CARDS_AT + CARDS_MAX * RECORDS["card"].size
SLOTS_AT: Final = ARBITERS_AT + CARDS_MAX * _LOCAL_ARBITER_BYTES


@dataclass(frozen=True, slots=True)
class CardLimit:
    """A container's slice of one card.

    `uuid` is "GPU-…" or "MIG-…" (digits alone: the n-th card the process sees). `memory_bytes` None and `cores` None
    or 0 mean no limit; `cores` is a percentage of the card's GPU time. `arbiter` is the path, inside the container, of
    the card's node-wide arbiter file; without one a container is limited by its own measured GPU time alone.
    """

    uuid: str
    memory_bytes: int | None
    cores: int | None
    arbiter: str = ""


@dataclass(frozen=True, slots=True)
class LedgerSpec:
    """Everything that the device plugin decides about one container. `priority` is 0 (high) or 1 (low)."""

    cards: tuple[CardLimit, ...]
    policy: Policy = "cap"
    priority: int = 0
    generation: int = 0


@dataclass(frozen=True, slots=True)
class CardReading:
    """What one container uses of one card now: bytes, and nanoseconds since the ledger was made."""

    limit: CardLimit
    charged_bytes: int
    peak_bytes: int
    denied: int
    busy_ns: int
    throttled_ns: int
    launches: int
    measured_permille: int


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """One process in the container. `bytes_by_card` follows the spec's cards.

    `alive` is false after a crash that no other process has cleaned up yet.
    """

    pid: int
    host_pid: int
    command: str
    alive: bool
    busy_ns: int
    bytes_by_card: tuple[int, ...]
    bytes_by_kind: dict[str, int]


@dataclass(frozen=True, slots=True)
class LedgerView:
    """A ledger as read: the spec it was made from, live use, and what could not be enforced (empty is healthy)."""

    spec: LedgerSpec
    cards: tuple[CardReading, ...]
    processes: tuple[ProcessReading, ...]
    events: dict[str, int]


def render_ledger(spec: LedgerSpec) -> bytes:
    """The bytes of a fresh ledger: 65536 of them. Raises WireError."""
    _check(spec)
    data = bytearray(LEDGER_BYTES)
    RECORDS["header"].write(
        data,
        0,
        magic=LEDGER_MAGIC,
        abi=LEDGER_ABI,
        bytes=LEDGER_BYTES,
        generation=spec.generation,
        card_count=len(spec.cards),
        slot_count=SLOTS,
        policy=POLICIES.index(spec.policy),
        priority=spec.priority,
    )
    for i, card in enumerate(spec.cards):
        RECORDS["card"].write(
            data,
            CARDS_AT + i * RECORDS["card"].size,
            uuid=card.uuid.encode(),
            memory_limit=UNLIMITED if card.memory_bytes is None else card.memory_bytes,
            cores=card.cores or 0,
            weight=card.cores or 0,
            arbiter=card.arbiter.encode(),
        )
        _write_arbiter(data, ARBITERS_AT + i * _LOCAL_ARBITER_BYTES, LOCAL_TENANTS, LOCAL_MEMBERS, ROUND_US)
    return bytes(data)


def render_arbiter(round_us: int = ROUND_US) -> bytes:
    """The bytes of a fresh node-wide arbiter for one card; `round_us` is the length of one round of turns."""
    if not 2_000 <= round_us <= 1_000_000:
        raise WireError("round_us", round_us, "use 2000 to 1000000 microseconds")
    data = bytearray(NODE_ARBITER_BYTES)
    _write_arbiter(data, 0, NODE_TENANTS, NODE_MEMBERS, round_us)
    return bytes(data)


def parse_ledger(data: bytes) -> LedgerView:
    """A ledger's content. Raises WireError when the bytes are no ledger of this version."""
    header = RECORDS["header"]
    if len(data) != LEDGER_BYTES:
        raise WireError("ledger", f"{len(data)} bytes", f"give a ledger file of {LEDGER_BYTES} bytes")
    if header.number(data, 0, "magic") != LEDGER_MAGIC:
        raise WireError(
            "ledger.magic", header.number(data, 0, "magic"), "this is no ledger: make one with `kerf ledger`"
        )
    if header.number(data, 0, "abi") != LEDGER_ABI:
        raise WireError("ledger.abi", header.number(data, 0, "abi"), f"this program reads version {LEDGER_ABI}")
    count, policy = header.number(data, 0, "card_count"), header.number(data, 0, "policy")
    if count > CARDS_MAX or policy >= len(POLICIES):
        raise WireError("ledger", f"{count} cards, policy {policy}", "the file is damaged: create it again")
    cards = tuple(_card_use(data, i) for i in range(count))
    spec = LedgerSpec(
        cards=tuple(card.limit for card in cards),
        policy=POLICIES[policy],
        priority=header.number(data, 0, "priority"),
        generation=header.number(data, 0, "generation"),
    )
    counted = zip(EVENTS, header.numbers(data, 0, "events"), strict=False)
    return LedgerView(
        spec=spec,
        cards=cards,
        processes=tuple(_processes(data, count)),
        events={name: number for name, number in counted if number},
    )


def measured_patch(card: int, permille: int, at_ns: int) -> tuple[tuple[int, bytes], ...]:
    """The patch that writes a measured share into card record `card`: (offset, bytes), in order.

    `at_ns` is CLOCK_MONOTONIC; the time is written last, so a reader never pairs a new time with an old share.
    """
    record = RECORDS["card"]
    base = CARDS_AT + card * record.size
    return (
        (base + record.offsets["measured_permille"], struct.pack("<I", permille)),
        (base + record.offsets["measured_at_ns"], struct.pack("<Q", at_ns)),
    )


def host_pid_patch(slot: int, host_pid: int) -> tuple[int, bytes]:
    """The patch that writes a PID on the host into slot `slot`: (offset, bytes)."""
    record = RECORDS["slot"]
    return SLOTS_AT + slot * record.size + record.offsets["host_pid"], struct.pack("<i", host_pid)


def _check(spec: LedgerSpec) -> None:
    if not 1 <= len(spec.cards) <= CARDS_MAX:
        raise WireError("cards", len(spec.cards), f"give 1 to {CARDS_MAX} cards")
    if spec.policy not in POLICIES:
        raise WireError("policy", spec.policy, f"use one of {', '.join(POLICIES)}")
    if spec.priority not in (0, 1):
        raise WireError("priority", spec.priority, "use 0 (high) or 1 (low)")
    if len({card.uuid for card in spec.cards}) != len(spec.cards):
        raise WireError("cards", [card.uuid for card in spec.cards], "name every card once")
    for i, card in enumerate(spec.cards):
        _check_card(f"cards[{i}]", card)


def _check_card(where: str, card: CardLimit) -> None:
    if not 1 <= len(card.uuid.encode()) < 64:
        raise WireError(f"{where}.uuid", card.uuid, "use the card's UUID, at most 63 bytes")
    if card.memory_bytes is not None and not 0 <= card.memory_bytes < 2**63:
        raise WireError(f"{where}.memory_bytes", card.memory_bytes, "use a number of bytes below 2^63, or none")
    if card.cores is not None and not 0 <= card.cores <= 100:
        raise WireError(f"{where}.cores", card.cores, "use 0 (no limit) to 100 percent")
    if len(card.arbiter.encode()) >= 192:
        raise WireError(f"{where}.arbiter", card.arbiter, "use a path of at most 191 bytes")


def _write_arbiter(data: bytearray, base: int, tenants: int, members: int, round_us: int) -> None:
    RECORDS["arbiter"].write(
        data,
        base,
        magic=ARBITER_MAGIC,
        abi=ARBITER_ABI,
        tenant_count=tenants,
        member_count=members,
        period_us=round_us,
    )


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode(errors="replace")


def _card_use(data: bytes, index: int) -> CardReading:
    record, base = RECORDS["card"], CARDS_AT + index * RECORDS["card"].size

    def field(name: str) -> int:
        return record.number(data, base, name)

    limit = field("memory_limit")
    return CardReading(
        limit=CardLimit(
            uuid=_text(record.raw(data, base, "uuid")),
            memory_bytes=None if limit == UNLIMITED else limit,
            cores=field("cores") or None,
            arbiter=_text(record.raw(data, base, "arbiter")),
        ),
        charged_bytes=field("charged") & CHARGED_MASK,
        peak_bytes=field("peak"),
        denied=field("denied"),
        busy_ns=field("busy_ns"),
        throttled_ns=field("throttled_ns"),
        launches=field("launches"),
        measured_permille=field("measured_permille"),
    )


def _processes(data: bytes, cards: int) -> Iterable[ProcessReading]:
    record = RECORDS["slot"]
    for i in range(SLOTS):
        base = SLOTS_AT + i * record.size
        pid = record.number(data, base, "pid")
        if not pid:
            continue
        # The first word of the robust mutex: the holder's TID, and bit 30 once the kernel saw it die.
        owner = int.from_bytes(record.raw(data, base, "life")[:4], "little")
        kinds = zip(KINDS, record.numbers(data, base, "kinds"), strict=True)
        yield ProcessReading(
            pid=pid,
            host_pid=record.number(data, base, "host_pid"),
            command=_text(record.raw(data, base, "comm")),
            alive=bool(owner & 0x3FFFFFFF) and not owner & 0x40000000,
            busy_ns=record.number(data, base, "busy_ns"),
            bytes_by_card=record.numbers(data, base, "bytes")[:cards],
            bytes_by_kind={name: number for name, number in kinds if number},
        )
