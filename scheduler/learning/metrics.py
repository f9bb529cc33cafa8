"""What was learned, as metrics. Only the leader shows these series."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kerf.values.learned import Lesson

MIB = 2**20
MODEL = ("model", "runtime", "card")
SETUP = (*MODEL, "release", "concurrency", "tp", "extra")


@dataclass(frozen=True, slots=True)
class OverAsk:
    """Servers of a model, in MiB: granted, never held, and cache that was held and never full."""

    servers: int = 0
    granted_mib: int = 0
    never_mib: int = 0
    idle_cache_mib: int = 0

    def __add__(self, other: "OverAsk") -> "OverAsk":
        return OverAsk(
            self.servers + other.servers,
            self.granted_mib + other.granted_mib,
            self.never_mib + other.never_mib,
            self.idle_cache_mib + other.idle_cache_mib,
        )


class LearningPage(Collector):
    """The last round."""

    def __init__(self) -> None:
        self._families: tuple[Metric, ...] = ()

    def clear(self) -> None:
        """This replica shows nothing: it does not lead, or learning is off."""
        self._families = ()

    def show(
        self,
        lessons: Sequence[Lesson],
        asks: Mapping[tuple[str, str, str], OverAsk],
        left_out: Mapping[str, int],
        silent: Sequence[str],
    ) -> None:
        """Show a round."""
        self._families = tuple(_families(lessons, asks, left_out, silent))

    def collect(self) -> Iterator[Metric]:
        """The families of the last round."""
        yield from self._families


def _families(
    lessons: Sequence[Lesson],
    asks: Mapping[tuple[str, str, str], OverAsk],
    left_out: Mapping[str, int],
    silent: Sequence[str],
) -> Iterator[Metric]:
    from kerf.sizing.taught import need_of  # a scheduler that learns nothing does without what sizes models

    granted = GaugeMetricFamily("kerf_model_granted_bytes", "Memory granted to servers that run", labels=MODEL)
    never = GaugeMetricFamily("kerf_model_over_ask_bytes", "Memory that they were granted and never held", labels=MODEL)
    idle = GaugeMetricFamily("kerf_model_idle_cache_bytes", "Cache that they hold and never used", labels=MODEL)
    for key, one in sorted(asks.items()):
        granted.add_metric(key, one.granted_mib * MIB)
        never.add_metric(key, one.never_mib * MIB)
        idle.add_metric(key, one.idle_cache_mib * MIB)
    need = GaugeMetricFamily(
        "kerf_model_learned_bytes", "What servers need beside weights and cache, on each card", labels=SETUP
    )
    for lesson in lessons:
        setup = lesson.setup
        labels = (setup.model, setup.runtime, setup.card, setup.release)
        need.add_metric((*labels, str(setup.concurrency), str(setup.tp), setup.extra), need_of(lesson) * MIB)
    out = GaugeMetricFamily("kerf_learning_left_out", "Servers that teach nothing", labels=("reason",))
    for reason, count in sorted(left_out.items()):
        out.add_metric((reason,), count)
    quiet = GaugeMetricFamily("kerf_learning_silent_nodes", "Nodes whose records could not be read")
    quiet.add_metric((), len(silent))
    yield from (granted, never, idle, need, out, quiet)
