"""The lease: never two leaders, whatever is delayed, lost or repeated, and whatever the clocks say."""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.kube.lease import Claim, Election, Times, parse_lease, render_lease
from tests.effort import examples

TIMES = Times()


@dataclass
class Replica:
    """An election with a clock of its own: set to anything, and up to 5 % fast or slow."""

    election: Election
    offset: float
    rate: float
    flights: list["Flight"] = field(default_factory=list)

    def clock(self, real: float) -> float:
        return self.offset + self.rate * real


@dataclass
class Flight:
    """A request on its way: `claim` is None for a read. `answer` is set once the server has acted."""

    claim: Claim | None
    sent_at: float
    answer: Claim | None = None
    served: bool = False


class Server:
    """A Lease with optimistic concurrency."""

    def __init__(self) -> None:
        self.stored = Claim()
        self.version = 0

    def serve(self, flight: Flight) -> None:
        flight.served = True
        if flight.claim is None:
            flight.answer = self.stored
        elif flight.claim.version == self.stored.version:
            self.version += 1
            self.stored = replace(flight.claim, version=str(self.version))
            flight.answer = self.stored


steps = st.lists(
    st.tuples(
        st.sampled_from(["pass", "read", "write", "serve", "answer", "lose", "release", "tick", "tick"]),
        st.integers(0, 2),
        st.sampled_from([0.0, 0.01, 0.2, 0.25, 0.5, 1.0, 2.6, 2.75, 3.1]),
        st.integers(0, 3),
    ),
    max_size=120,
)
clocks = st.tuples(st.floats(-1e6, 1e6), st.floats(0.951, 1.05))


@settings(max_examples=examples(600))
@given(steps, st.lists(clocks, min_size=3, max_size=3))
def test_never_two_leaders_under_any_interleaving(script, clocks):
    server = Server()
    replicas = [Replica(Election(f"r{i}", "", TIMES), *clock) for i, clock in enumerate(clocks)]
    real = 0.0
    for what, who, seconds, which in script:
        replica = replicas[who]
        act(server, replica, what, replica.clock(real), which)
        real += seconds
        leading = [each.election.identity for each in replicas if each.election.leads(each.clock(real))]
        assert len(leading) <= 1


def act(server: Server, replica: Replica, what: str, now: float, which: int) -> None:
    """One step of one replica. Several of its requests may be under way at once: calls can outlive their answers."""
    flight = replica.flights[which % len(replica.flights)] if replica.flights else None
    if what == "read":
        replica.flights.append(Flight(None, now))
    elif what in ("write", "release"):
        claim = replica.election.wish(now) if what == "write" else replica.election.release()
        replica.flights.extend([Flight(claim, now)] if claim else [])
    elif what == "serve" and flight and not flight.served:
        server.serve(flight)
    elif what == "answer" and flight and flight.served:
        replica.flights.remove(flight)
        take(replica, flight, now)
    elif what == "lose" and flight:
        replica.flights.remove(flight)
        if which % 2 and not flight.served:  # only its answer was lost
            server.serve(flight)
    elif what == "tick":  # a whole round with quick answers: what happens nearly always
        for claim in (None, replica.election.wish(now)):
            whole = Flight(claim, now)
            server.serve(whole)
            take(replica, whole, now)


def take(replica: Replica, flight: Flight, now: float) -> None:
    if flight.answer is None:
        return
    if flight.claim is None:
        replica.election.observe(flight.answer, now)
    else:
        replica.election.written(flight.answer, flight.sent_at, now)


def an_election(name: str = "me") -> Election:
    return Election(name, f"{name}:1", TIMES)


def test_a_released_lease_is_taken_at_once():
    election = an_election()
    election.observe(Claim("", "", 4, "9"), 100.0)

    assert election.wish(100.0) == Claim("me", "me:1", 5, "9")


def test_a_lease_that_is_not_renewed_is_taken_after_its_whole_time_as_seen_from_here():
    election = an_election()
    election.observe(Claim("other", "", 4, "9"), 100.0)

    assert election.wish(102.9) is None
    assert election.wish(103.0) == Claim("me", "me:1", 5, "9")


def test_every_renewal_starts_the_wait_again():
    election = an_election()
    election.observe(Claim("other", "", 4, "9"), 100.0)
    election.observe(Claim("other", "", 4, "10"), 102.9)

    assert election.wish(105.8) is None


def test_a_lease_that_was_deleted_is_waited_for_like_one_that_ran_out():
    election = an_election()
    for tenth in range(31):
        election.observe(Claim(), 100.0 + tenth / 10)
        assert (election.wish(100.0 + tenth / 10) is not None) == (tenth == 30)


def test_a_replica_that_was_cut_off_waits_again_for_an_absent_lease():
    election = an_election()
    election.observe(Claim(), 100.0)
    election.observe(Claim(), 500.0)

    assert election.wish(500.0) is None


def test_a_holder_counts_from_before_it_asked():
    election = an_election()
    election.written(Claim("me", "me:1", 1, "1"), 100.0, 101.5)

    assert election.leads(102.69)
    assert not election.leads(102.7)
    assert not election.leads(101.6, for_s=1.2)


def test_a_holder_renews_every_second_and_not_more_often():
    election = an_election()
    election.written(Claim("me", "me:1", 1, "1"), 100.0, 100.1)

    assert election.wish(100.9) is None
    assert election.wish(101.0) == Claim("me", "me:1", 1, "1")


def test_a_replica_that_sees_another_holder_stops_at_once():
    election = an_election()
    election.written(Claim("me", "me:1", 1, "1"), 100.0, 100.1)
    election.observe(Claim("other", "", 2, "2"), 100.2)

    assert not election.leads(100.2)


def test_a_lease_survives_the_wire_and_timestamps_are_not_read():
    claim = Claim("me", "10.0.0.1:9090", 7, "12")
    document = render_lease("kerf-system", "kerf-scheduler", claim, TIMES, wall=0.0)
    document["spec"]["renewTime"] = "2099-01-01T00:00:00.000000Z"

    assert parse_lease(document) == claim
    assert document["spec"]["leaseDurationSeconds"] == 3
