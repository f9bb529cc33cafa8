"""Random histories of pods on cards, as values."""

from hypothesis import strategies as st

from kerf.metering.use import Held, Kind, MeteredCard, Who
from kerf.values.grant import CardUse

START = 1_764_259_200_000
"""2025-11-27T16:00:00Z, the start of an hour."""
H100 = Kind("nvidia-h100", "NVIDIA H100 80GB HBM3", "owned")
L4 = Kind("nvidia-l4", "NVIDIA L4", "rented", "r")


def a_card(index: int = 0, kind: Kind = H100, per_hour: int = 2_000_000, memory_mib: int = 80_000) -> MeteredCard:
    return MeteredCard(f"GPU-{index}", kind, memory_mib, per_hour, "node-1")


def a_hold(
    pod: str = "a", *, mib: int = 20_000, cores: int = 0, start: int = 0, end: int = 3_600_000, card: str = "GPU-0"
) -> Held:
    """Times are milliseconds after START."""
    who = Who("team", "ns", f"Deployment/{pod}", "m")
    return Held(pod, who, {card: CardUse(mib, cores, 1)}, START + start, START + end)


CARDS = st.lists(
    st.tuples(st.sampled_from([H100, L4]), st.integers(0, 10_000_000), st.integers(1, 200_000)), min_size=1, max_size=4
).map(lambda rows: {f"GPU-{i}": a_card(i, kind, price, mib) for i, (kind, price, mib) in enumerate(rows)})
"""Cards of two kinds. A kind has one price in these histories only by chance, as when prices change."""


@st.composite
def holds(draw: st.DrawFn, most_ms: int = 10_000_000) -> list[Held]:
    """Pods with any sizes, over-committed ones included, over up to three hours."""
    found = []
    for i in range(draw(st.integers(0, 8))):
        start = draw(st.integers(0, most_ms))
        end = draw(st.integers(start, most_ms))
        uses = {
            f"GPU-{card}": CardUse(draw(st.integers(0, 200_000)), draw(st.integers(0, 100)), 1)
            for card in draw(st.sets(st.integers(0, 3), min_size=1, max_size=3))
        }
        who = Who(draw(st.sampled_from(["", "a", "b"])), draw(st.sampled_from(["x", "y"])), f"Job/{i % 3}", "m")
        found.append(Held(f"pod-{i}", who, uses, START + start, START + end))
    return found
