"""Random small nodes and asks for property tests, and an exhaustive reference for what fits on a node."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product

from hypothesis import strategies as st

from kerf.values.ask import ContainerAsk, PodAsk, Selection, Stage, Wishes
from kerf.values.device import Card, Mode
from kerf.values.grant import NO_USE, CardUse, Grant
from kerf.values.health import HEALTHY, SUSPECT
from kerf.values.slicing import ANY_SIZE, NotSliced, Partitions, Size, Templates, WholeCard
from scheduler.core.state import CardState, NodeState

SLICINGS = (
    ANY_SIZE,
    ANY_SIZE,
    Templates((Size(4, 20), Size(8, 50))),
    Templates((Size(4, 0), Size(6, 30)), whole=False),
    Partitions(2),
    WholeCard(),
    NotSliced("it is not"),
)
MODELS = ("NVIDIA A100", "Tesla T4")
STAGES = (Stage.INIT, Stage.SIDECAR, Stage.APP)


@st.composite
def cards(draw: st.DrawFn, node: str = "n", most: int = 4) -> tuple[Card, ...]:
    count = draw(st.integers(0, most))
    return tuple(
        Card(
            id=f"{node}-{i}",
            index=i,
            vendor="nvidia",
            model=draw(st.sampled_from(MODELS)),
            memory_mib=draw(st.sampled_from((8, 10, 16))),
            cores=draw(st.sampled_from((100, 100, 200))),
            slots=draw(st.sampled_from((1, 2, 4))),
            numa=draw(st.integers(0, 1)),
            mode=draw(st.sampled_from((Mode.SHARED, Mode.SHARED, Mode.MPS))),
            health=draw(st.sampled_from((HEALTHY, HEALTHY, HEALTHY, SUSPECT))),
            links=tuple(f"{node}-{j}" for j in range(count) if j != i and draw(st.booleans())),
            physical_mib=draw(st.sampled_from((0, 8))),
            slicing=draw(st.sampled_from(SLICINGS)),
        )
        for i in range(count)
    )


def uses() -> st.SearchStrategy[CardUse]:
    some = st.builds(CardUse, st.integers(0, 10), st.sampled_from((0, 30, 50, 100)), st.integers(1, 3))
    return st.one_of(st.just(NO_USE), some)


@st.composite
def node_states(draw: st.DrawFn) -> NodeState:
    held = tuple(CardState(card, draw(uses()), card.healthy and not card.slicing.refusal) for card in draw(cards()))
    return NodeState("n", held, draw(st.integers(0, 8)), 64, schedulable=draw(st.sampled_from((True, True, False))))


def container_asks(name: str) -> st.SearchStrategy[ContainerAsk]:
    sizes = st.one_of(st.tuples(st.integers(0, 12), st.none()), st.tuples(st.none(), st.sampled_from((25, 50, 100))))
    return st.builds(
        lambda size, count, cores, stage: ContainerAsk(name, count, size[0], size[1], cores, stage, "nvidia"),
        sizes,
        st.integers(1, 3),
        st.sampled_from((0, 20, 50, 100)),
        st.sampled_from(STAGES),
    )


@st.composite
def pod_asks(draw: st.DrawFn, most: int = 3) -> PodAsk:
    asks = [draw(container_asks(f"c{i}")) for i in range(draw(st.integers(1, most)))]
    if draw(st.booleans()):  # equal containers: the search treats them as interchangeable
        asks = [replace(asks[0], name=ask.name) for ask in asks]
    asks.sort(key=lambda ask: ask.stage is Stage.APP)  # init containers and sidecars come before apps
    selection = Selection(
        avoid_ids=draw(st.sampled_from(((), (), ("n-0",)))),
        use_types=draw(st.sampled_from(((), (), ("t4",)))),
        same_numa=draw(st.booleans()),
        same_model=draw(st.booleans()),
    )
    chain = draw(
        st.sampled_from(((), ("binpack",), ("spread",), ("numa", "spread"), ("mutex",), ("topology", "binpack")))
    )
    return PodAsk(
        "default", "p", "u", tuple(asks), selection, Wishes(card_policies=chain), draw(st.sampled_from((0, 1, 4)))
    )


def every_choice(ask: PodAsk, node: NodeState) -> Iterator[tuple[tuple[CardState, ...], ...]]:
    """Every way to give each container its distinct cards, fitting or not."""
    yield from product(*(combinations(node.cards, container.cards) for container in ask.containers))


def holds(ask: PodAsk, choice: tuple[tuple[CardState, ...], ...]) -> bool:
    """Whether a choice keeps every rule, checked phase by phase and card by card from first principles."""
    return all(
        _set_allowed(ask, container, taken) for container, taken in zip(ask.containers, choice, strict=True)
    ) and all(_phase_allowed(ask, choice, phase) for phase in _phases(ask))


def _phases(ask: PodAsk) -> Iterator[list[int]]:
    sidecars: list[int] = []
    for i, container in enumerate(ask.containers):
        if container.stage is Stage.INIT:
            yield [*sidecars, i]
        elif container.stage is Stage.SIDECAR:
            sidecars.append(i)
    yield [i for i, container in enumerate(ask.containers) if container.stage is not Stage.INIT]


def _set_allowed(ask: PodAsk, container: ContainerAsk, taken: tuple[CardState, ...]) -> bool:
    selection = ask.selection
    if selection.same_model and len({state.card.model for state in taken}) > 1:
        return False
    if selection.same_numa and len({state.card.numa for state in taken}) > 1:
        return False
    if "topology" in ask.wishes.card_policies and not _connected([state.card for state in taken]):
        return False
    return all(
        state.usable
        and state.card.id not in selection.avoid_ids
        and (not selection.use_types or any(word in state.card.model.lower() for word in selection.use_types))
        for state in taken
    )


def _connected(taken: list[Card]) -> bool:
    reached = {taken[0].id}
    for _ in taken:
        reached |= {a.id for a in taken for b in taken if b.id in reached and (a.id in b.links or b.id in a.links)}
    return len(reached) == len(taken)


def _phase_allowed(ask: PodAsk, choice: tuple[tuple[CardState, ...], ...], phase: list[int]) -> bool:
    states = {state.card.id: state for i in phase for state in choice[i]}
    return all(
        _card_allowed(ask, state, [ask.containers[i] for i in phase if state in choice[i]]) for state in states.values()
    )


def given(ask: ContainerAsk, card: Card) -> tuple[int, int] | None:
    """MiB and cores that a card gives: the smallest of what it offers that holds the ask."""
    memory, most = ask.memory_on(card.factory_memory_mib), min(card.memory_mib, card.factory_memory_mib)
    whole = (most, min(card.cores, 100))
    match card.slicing:
        case Templates(templates, with_whole):
            offered = [(t.memory_mib, t.cores) for t in templates] + [whole] * with_whole
        case Partitions(count):
            offered = [(most // count, min(card.cores, 100) // count)]
        case WholeCard():
            offered = [whole]
        case NotSliced():
            offered = []
        case _:
            offered = [(memory, ask.cores)]
    return min((o for o in offered if memory <= o[0] <= most and ask.cores <= o[1] <= card.cores), default=None)


def _card_allowed(ask: PodAsk, state: CardState, tenants: list[ContainerAsk]) -> bool:
    card, used = state.card, state.used
    slices = [given(tenant, card) for tenant in tenants]
    if None in slices:
        return False
    memory, cores = [s[0] for s in slices if s], [s[1] for s in slices if s]
    lonely = ["mutex" in ask.wishes.card_policies or (percent == 100 and card.cores == 100) for percent in cores]
    return (
        used.memory_mib + sum(memory) <= card.memory_mib
        and used.cores + sum(cores) <= max(card.cores, used.cores)
        and all(percent == 0 or used.cores + percent <= card.cores for percent in cores)
        and used.slots + len(tenants) <= card.slots
        and not (any(lonely) and used.slots + len(tenants) > 1)
        and not (0 in cores and used.cores >= card.cores)
    )


def choice_of(grant: Grant, node: NodeState) -> tuple[tuple[CardState, ...], ...]:
    """A grant as a choice of the node's cards."""
    by_id = {state.card.id: state for state in node.cards}
    return tuple(tuple(by_id[slice_.card] for slice_ in container.slices) for container in grant.containers)
