"""What becomes of a cluster as it answers or does not: phases, epochs, back-off and reliability. Pure.

The epoch of a cluster grows when the manager gives up on it. Whatever a cluster holds of an older epoch has been placed
elsewhere since, so a cluster that returns has no capacity until all of it is gone.
"""

from dataclasses import replace

from kerf.values.fleet import ClusterRecord, FleetSettings, Phase

MOST_LOSSES = 32


def seen(
    record: ClusterRecord, settings: FleetSettings, now: float, *, answers: bool, clean: bool, watched_s: float
) -> ClusterRecord:
    """The record after one look: whether the cluster answers, and whether nothing of an older epoch is left there.

    `record.contact` says already when it answered last. A manager that has listened for less than it takes to become
    stale (`watched_s`) gives up no cluster: that there was no manager before is no fault of the clusters.
    """
    if not answers:
        return _silent(record, settings, now, heard=watched_s > settings.stale_after_s)
    if record.phase in (Phase.LOST, Phase.RETURNED):
        if not clean:
            return replace(record, phase=Phase.RETURNED)
        return replace(record, phase=Phase.RESTING, until=now + back_off(record, settings, now))
    if record.phase is Phase.JOINING and not clean:
        return replace(record, phase=Phase.RETURNED)
    return replace(record, phase=Phase.RESTING if now < record.until else Phase.LIVE)


def as_of(record: ClusterRecord, settings: FleetSettings, now: float) -> ClusterRecord:
    """The record as a manager takes it over whose clock is behind that of the one that wrote it: nothing is to come."""
    return replace(record, contact=min(record.contact, now), until=min(record.until, now + settings.most_back_off_s))


def _silent(record: ClusterRecord, settings: FleetSettings, now: float, *, heard: bool) -> ClusterRecord:
    if record.phase in (Phase.LOST, Phase.JOINING):
        return record
    if not heard or now - record.contact <= settings.lost_after_s:
        # What a returned cluster still holds of an older epoch stays in doubt, answering or not.
        return record if record.phase is Phase.RETURNED else replace(record, phase=Phase.SILENT)
    if record.phase is Phase.RETURNED:
        return replace(record, phase=Phase.LOST)
    losses = (*record.losses, now)[-MOST_LOSSES:]
    return replace(record, phase=Phase.LOST, epoch=record.epoch + 1, losses=losses)


def back_off(record: ClusterRecord, settings: FleetSettings, now: float) -> float:
    """How long a cluster that returned rests: twice as long for each further loss that still weighs."""
    return min(settings.most_back_off_s, settings.back_off_s * 2 ** max(0.0, weighed(record, settings, now) - 1))


def weighed(record: ClusterRecord, settings: FleetSettings, now: float) -> float:
    """Losses, each counting half after every half-life."""
    return float(sum(0.5 ** (max(0.0, now - loss) / settings.half_life_s) for loss in record.losses))


def reliability(record: ClusterRecord, settings: FleetSettings, now: float) -> float:
    """1 for a cluster that was never lost; what a plan divides its prices by."""
    return 1.0 / (1.0 + 0.5 * weighed(record, settings, now))


def takes_work(record: ClusterRecord, settings: FleetSettings, now: float) -> bool:
    """Whether new replicas may go there: it is live, and what was seen of it is fresh."""
    return record.phase is Phase.LIVE and now - record.contact <= settings.stale_after_s
