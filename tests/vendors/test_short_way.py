"""The short way to a placement, by the arrays of the score, gives what the search gives, on any vendor's cards."""

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.mixed import WORDS, Fleet, pod
from kerf.values.grant import Grant
from scheduler.core.place import place
from scheduler.core.preference import wished

STEPS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 5), st.booleans()), min_size=1, max_size=25)


@given(STEPS)
def test_the_short_way_and_the_search_agree(steps: list[tuple[int, int, bool]]) -> None:
    fleet = Fleet(len(WORDS), len(WORDS))
    engine, kept = fleet.store.desk._live.engine, []
    for turn, (number, node, leaves) in enumerate(steps):
        ask, stages = fleet.store.desk.read(pod(1_000_000 + len(WORDS) * (number + 20_000 * turn) + node, len(WORDS)))
        name = fleet.names[node]
        state, prices = fleet.store.desk.state(name), engine._prices(ask, engine.fleet.row(name))

        found = engine.place(ask, name)

        assert found == place(ask, state, *wished(ask, engine.policy), check_node=False, price=prices)
        if isinstance(found, Grant):
            fleet.store.ledger.assume(ask, name, found, stages)
            kept.append(ask.uid)
        if leaves and kept:
            fleet.store.ledger.undo(kept.pop(0))
