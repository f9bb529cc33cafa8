"""Claims on a real kubelet: each container holds what Kubernetes' allocator gave its claim, whatever restarts."""

from collections.abc import Iterator

import pytest

from sandbox import ControlPlane, Node, render_scheduler_configuration
from tests.cluster.dra_world import (
    RESOURCE,
    USER,
    Driver,
    allocated,
    claim_spec,
    got,
    remove_all,
    start_driver,
    submit,
)

pytestmark = pytest.mark.cluster


def a_class(name: str, kind: str) -> dict[str, object]:
    expression = f"device.driver == 'gpu.kerf.dev' && device.attributes['gpu.kerf.dev'].kind == '{kind}'"
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": name},
        "spec": {"selectors": [{"cel": {"expression": expression}}]},
    }


@pytest.fixture(scope="module")
def driver(control_plane: ControlPlane, node: Node) -> Iterator[Driver]:
    kubeconfig = str(control_plane.kubeconfig_for("system:kube-scheduler"))
    control_plane.start_scheduler(
        configuration=render_scheduler_configuration(kubeconfig, None, profile="default-scheduler")
    )
    for kind in ("slice", "card"):
        control_plane.api.post(f"{RESOURCE}/deviceclasses", a_class(f"{kind}.gpu.kerf.dev", kind))
    yield start_driver(control_plane, node, "dra", control_plane.kubeconfig_for(USER))
    control_plane.supervisor.stop("deviceplugin")


@pytest.fixture(autouse=True)
def nothing_left(driver: Driver) -> Iterator[None]:
    yield
    remove_all(driver)


def test_twenty_pods_with_claims_of_different_sizes_share_four_cards_and_each_ledger_equals_its_claim(driver: Driver):
    names = [submit(driver, f"dra-{i:02}", claim_spec(memory=f"{1000 + 700 * i}Mi", cores=str(i))) for i in range(20)]

    seen = {name: got(driver, name) for name in names}

    assert seen == {name: allocated(driver, name) for name in names}
    assert [(mib, cores) for [(_, mib, cores)] in seen.values()] == [(1000 + 700 * i, i) for i in range(20)]
