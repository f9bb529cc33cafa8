"""A fault that names a MIG instance moves the pod that holds it, and nobody else on the card."""

from dataclasses import replace

from kerf.testing.builders import a_mig_card
from kerf.values.health import Health, State
from kerf.values.mig import Hurt, place_at
from tests.scheduler.recovery.world import NOW, World, card_id, lost

HURT = Hurt(4, "uid-default-p1", 48, "MIG instance 2 at memory slice 4: XID 48 (double-bit ECC error)", NOW)


def a_world() -> World:
    """Two pods on one card in MIG mode: p0 holds 3g at 0, p1 3g at 4."""
    world = World().node("a", 1).node("b", 1)
    world.nodes["a"] = [a_mig_card(id=card_id("a", 0))]
    for index, start in enumerate((0, 4)):
        pod = world.run(f"p{index}", "a", 0, mib=40_448)
        grant = pod["metadata"]["annotations"]["kerf.dev/grant"]
        assert '"cores":10' in grant.replace(" ", "")
        world.put(with_place(pod, place_at(start, 4).adds))
    return world


def with_place(pod: dict, place: int) -> dict:  # type: ignore[type-arg]
    from kerf.wire.annotations import GRANT, parse_grant, render_grant

    grant = parse_grant(pod["metadata"]["annotations"][GRANT])
    (container,) = grant.containers
    (piece,) = container.slices
    placed = replace(container, slices=(replace(piece, cores=45, place=place),))
    notes = {**pod["metadata"]["annotations"], GRANT: render_grant(replace(grant, containers=(placed,)))}
    return {**pod, "metadata": {**pod["metadata"], "annotations": notes}}


def hurt(world: World, health: Health | None = None) -> None:
    (card,) = world.nodes["a"]
    assert card.mig is not None
    world.nodes["a"] = [replace(card, mig=replace(card.mig, hurt=(HURT,)))]
    world.fail("a", 0, health or Health(State.SUSPECT, "XID 48", NOW, 48))


def test_the_tenant_of_the_instance_alone_moves():
    world = a_world()

    hurt(world)

    assert world.round() == ["p1"]
    assert world.cordoned("a") is None
    ((who, said, _),) = world.events.said
    assert (who, said) == ("p1", f"evicted because of card 0 (GPU-a-0) of node a: {HURT.cause}")


def test_the_next_pod_at_the_same_place_stays():
    """Until the node has removed the instance, the fault is still published; it names the pod that had it."""
    world = a_world()
    hurt(world)
    world.round()

    world.put(with_place(world.run("p2", "a", 0, mib=40_448), place_at(4, 4).adds))

    assert world.round(10) == ["p1"]


def test_a_card_that_is_lost_moves_all_of_its_tenants_all_the_same():
    world = a_world()

    hurt(world, lost())

    assert world.round() == ["p0", "p1"]
