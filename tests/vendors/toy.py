"""A vendor that exists for tests alone, as one file: cards are sliced by templates, and nothing of NVIDIA's fits it."""

from kerf.values.ask import ContainerAsk
from kerf.values.device import Card
from kerf.values.fault import Code, FaultTable, Verdict
from kerf.values.grant import Slice
from kerf.values.injection import Injection, NodeFiles, Terms
from kerf.values.slicing import NotSliced, Size, Slicing, Templates
from kerf.values.vendor import ResourceNames, Vendor

LARGEST_MIB = 32_768
TEMPLATES = (Size(4_096, 12, "toy_1c"), Size(8_192, 25, "toy_2c"), Size(16_384, 50, "toy_4c"))
SIZES = (*TEMPLATES, Size(LARGEST_MIB, 100))
MODEL = "Toy T32"


def slicing_of(card: Card) -> Slicing:
    """Templates, on the one model that has them."""
    return Templates(TEMPLATES) if card.model == MODEL else NotSliced(f"{card.model} has no templates")


def inject(slices: tuple[Slice, ...], _files: NodeFiles, _terms: Terms) -> Injection:
    """The cards, and the template from which the driver makes each slice."""
    name = {(size.memory_mib, size.cores): size.name for size in SIZES}
    templates = [name[piece.memory_mib, piece.cores] for piece in slices]
    return Injection(
        env=(("TOY_VISIBLE_CARDS", ",".join(s.card for s in slices)), ("TOY_TEMPLATES", ",".join(templates))),
    )


def refuses(ask: ContainerAsk) -> str:
    """No card is larger than the largest."""
    if (ask.memory_mib or 0) > LARGEST_MIB:
        return f"no template and no card holds that much: write at most {LARGEST_MIB}"
    return ""


TOY = Vendor(
    name="toy",
    words=ResourceNames(
        vendor="toy",
        count="toy.example/npu",
        memory="toy.example/npu-memory",
        memory_percent="toy.example/npu-memory-percentage",
        cores="toy.example/npu-cores",
        priority="toy.example/priority",
        use_ids="toy.example/use-id",
        avoid_ids="toy.example/nouse-id",
        use_types="toy.example/use-type",
        avoid_types="toy.example/nouse-type",
        modes="toy.example/mode",
        same_numa="toy.example/numa-bind",
        refuses=refuses,
    ),
    cdi_kind="toy.example/npu",
    hami_register="hami.io/node-toy-register",
    hami_allocated="hami.io/toy-devices-allocated",
    slicing_of=slicing_of,
    inject=inject,
    faults=FaultTable({7: Code("hiccup", Verdict.IGNORE), 8: Code("dead", Verdict.EVICT)}),
)
