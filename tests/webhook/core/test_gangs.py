"""The size of a gang is written where the pods by themselves do not say it."""

import copy
from typing import Any

import pytest

from kerf.vendors.registry import VENDORS
from tests.webhook.core.test_templates import a_leader_worker_set, a_template, stored
from webhook.core.settings import Settings

PLAIN = Settings(VENDORS)


def a_job(name: str, replicas: int = 1, template: Any = None, more: Any = None, **spec: int) -> dict[str, Any]:
    inner = {**spec, "template": template or a_template()}
    return {"name": name, "replicas": replicas, "template": {"spec": inner}, **(more or {})}


def a_set(*jobs: dict[str, Any], **spec: Any) -> dict[str, Any]:
    version = "jobset.x-k8s.io/v1alpha2"
    return {
        "apiVersion": version,
        "kind": "JobSet",
        "metadata": {"name": "s"},
        "spec": {"replicatedJobs": list(jobs), **spec},
    }


def marks(made: dict[str, Any]) -> list[dict[str, str]]:
    templates = [job["template"]["spec"]["template"] for job in made["spec"]["replicatedJobs"]]
    return [
        {key: value for key, value in template["metadata"].get("annotations", {}).items() if "gang" in key}
        for template in templates
    ]


CARDLESS = {"spec": {"containers": [{"name": "driver"}]}, "metadata": {}}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (a_set(a_job("w", 2, parallelism=2)), [{"kerf.dev/gang-size": "4"}]),
        (a_set(a_job("w", 2, parallelism=4, completions=3)), [{"kerf.dev/gang-size": "6"}]),
        (
            a_set(a_job("driver", template=CARDLESS), a_job("a", parallelism=2), a_job("b")),
            [{}, {"kerf.dev/gang-size": "3"}, {"kerf.dev/gang-size": "3"}],
        ),
        (
            a_set(a_job("a", parallelism=2), a_job("b"), startupPolicy={"startupPolicyOrder": "InOrder"}),
            [{"kerf.dev/gang-size": "2", "kerf.dev/gang-part": "true"}, {}],
        ),
        (
            a_set(a_job("a"), a_job("b", 3, more={"dependsOn": [{"name": "a", "status": "Ready"}]})),
            [{}, {"kerf.dev/gang-size": "3", "kerf.dev/gang-part": "true"}],
        ),
        (a_set(a_job("alone")), [{}]),
        (
            a_set(a_job("w", 2, template=a_template(annotations={"kerf.dev/gang-size": "1"}))),
            [{"kerf.dev/gang-size": "1"}],
        ),
    ],
    ids=["all pods", "completions", "a driver without cards", "in order", "depends on", "one pod", "said by the user"],
)
def test_a_job_sets_pods_with_cards_start_together(item: dict[str, Any], expected: list[dict[str, str]]) -> None:
    assert marks(stored(item, PLAIN)) == expected


def test_a_file_that_is_applied_again_by_replacement_keeps_the_size() -> None:
    item = a_set(a_job("w", 2))
    old = stored(item, PLAIN)

    assert marks(stored(copy.deepcopy(item), PLAIN, old)) == marks(old) == [{"kerf.dev/gang-size": "2"}]


def test_groups_whose_workers_wait_for_their_leader_are_no_gangs() -> None:
    item = a_leader_worker_set(a_template(), leaderTemplate=a_template())
    item["spec"] |= {"startupPolicy": "LeaderReady"}

    made = stored(item, PLAIN)["spec"]["leaderWorkerTemplate"]

    sizes = [
        made[part]["metadata"]["annotations"]["kerf.dev/gang-size"] for part in ("leaderTemplate", "workerTemplate")
    ]
    assert sizes == ["1", "1"]
