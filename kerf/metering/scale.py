"""How many replicas a workload should have, from what its engines say, and why it cannot have them. Pure.

More: requests wait for capacity, more than `waiting_per_replica` for each replica, or the fullest cache is above
`kv_percent`. Never more than twice as many at once, nor than quota and cards allow. Fewer: nothing waits, and a
step less would leave the caches well below the threshold; only after the cool-down, since loading takes minutes.
A step is more than a tenth: Kubernetes' HorizontalPodAutoscaler ignores what differs by less.
"""

from dataclasses import dataclass, field

from kerf.values.policy import ScaleSettings

CALM = 0.6
"""Part of the threshold below which the caches must stay with a step less."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A workload's engines together. `reading` are replicas whose page was read and that are awake."""

    replicas: int
    reading: int
    waiting: int
    kv_use: float
    """Of the fullest replica, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many more replicas there is room for, and what the bound is, as a sentence."""

    more: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """`wanted` is what the signals ask for, `replicas` what can be had; `why` says what is in between."""

    wanted: int
    replicas: int
    why: str = ""


def wanted(signal: Signal, settings: ScaleSettings) -> int:
    """How many replicas the signals ask for, room apart; as many as there are where nothing says otherwise."""
    now = signal.replicas
    if not signal.reading or signal.reading < now:
        return now  # some are loading, asleep or silent: their part is not known yet
    step = now // 10 + 1
    if signal.waiting > settings.waiting_per_replica * now:
        return min(max(-(-signal.waiting // settings.waiting_per_replica), now + step), 2 * now)
    threshold = settings.kv_percent / 100
    if signal.kv_use > threshold:
        return now + step
    if now > step and signal.waiting == 0 and signal.kv_use * now / (now - step) < CALM * threshold:
        return now - step
    return now


def recommend(signal: Signal, room: Room, settings: ScaleSettings) -> Recommendation:
    """The recommendation within the room."""
    want = wanted(signal, settings)
    if want <= signal.replicas:
        return Recommendation(want, want)
    most = min(signal.replicas + room.more, settings.most_replicas)
    if want <= most:
        return Recommendation(want, want)
    why = (
        room.why
        if signal.replicas + room.more <= settings.most_replicas
        else (f"the policy allows {settings.most_replicas} replicas (scaleOut.mostReplicas)")
    )
    return Recommendation(want, max(most, signal.replicas), why)


@dataclass(slots=True)
class Steady:
    """The highest recommendation of the last seconds: a lower one has to last."""

    seconds: float
    _seen: list[tuple[float, int]] = field(default_factory=list)

    def after(self, now_s: float, replicas: int) -> int:
        """What to recommend at a monotonic moment."""
        self._seen = [(at, count) for at, count in self._seen if at > now_s - self.seconds]
        self._seen.append((now_s, replicas))
        return max(count for _, count in self._seen)
