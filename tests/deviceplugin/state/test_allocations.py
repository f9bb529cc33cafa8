"""Records of Allocate calls, for runtimes without CDI."""

from pathlib import Path

from deviceplugin.state.allocations import Allocation, Allocations
from deviceplugin.state.files import Files
from deviceplugin.state.node_specs import NodeSpecs


def test_the_records_of_dead_pods_and_damaged_ones_go_while_the_plugin_runs(tmp_path: Path) -> None:
    files = Files(str(tmp_path / "state"), str(tmp_path / "cdi"), None, NodeSpecs((), ()))
    allocations = Allocations(files)
    stays = Allocation("live", ("main",), "nvidia")
    allocations.write("slots-1", stays)
    allocations.write("slots-2", Allocation("dead", ("main",), "nvidia"))
    files.write_allocated("slots-3", "{")

    assert allocations.remove_except(frozenset({"live"})) == 2
    assert (allocations.by_stem(), set(files.allocated())) == ({"slots-1": stays}, {"slots-1"})
