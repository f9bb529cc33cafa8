"""docs/quota.md: its files are read, its table is the truth, its commands and metrics are there."""

import argparse
import re
import shlex
from pathlib import Path

import pytest
import yaml

from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_card
from kerf.values.policy import Defaults, SchedulingPolicy
from kerf.values.quota import Amount, usage_of_ask
from kerf.vendors.registry import NAMES
from kerf.wire.policy import parse_policy
from kerf.wire.quota import parse_tenant
from kerf.wire.resourcequota import parse_hard
from kerf.wire.resources import parse_pod
from kerfctl.main import main
from kerfctl.quota import command as quota
from sandbox.kueuedocs import FRAMEWORKS, FRAMEWORKS_OF_CRDS, NOT_COUNTED, UNMANAGED
from scheduler.metrics import QuotaMetrics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quota.md").read_text()
TENANT, KUEUE, HARD = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [line.partition("#")[0].strip() for line in re.findall(r"^kerf quota .*$", PAGE, re.MULTILINE)]
ROWS = re.findall(r"^\| (.*gpu.*`) \| ([\d,]+) MiB, (?:(\d+) %, )?(\d) cards? \|", PAGE, re.MULTILINE)


def test_the_first_file_is_a_tenant() -> None:
    assert parse_tenant(TENANT).name == "serving"


def test_the_resource_quota_limits_its_namespace() -> None:
    ((_, bound),) = parse_hard([HARD], NAMES)["notebooks"].limits[0].bounds

    assert (bound.memory_mib, bound.cores) == (160_000, 200)


def test_kueue_forgets_what_kerfs_queues_do_not_declare_and_keeps_what_they_do() -> None:
    prefixes = tuple(KUEUE["resources"]["excludeResourcePrefixes"])

    assert prefixes == NOT_COUNTED  # what the cluster tests run Kueue with
    assert KUEUE["managedJobsNamespaceSelector"] == UNMANAGED
    assert KUEUE["integrations"]["frameworks"] == [*FRAMEWORKS, *FRAMEWORKS_OF_CRDS.values()]
    assert all(name.startswith(prefixes) for names in NAMES for name in names.all)
    assert not any(name.startswith(prefixes) for names in NAMES for name in names.quota)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_of_the_table_is_what_kerf_counts(row: tuple[str, ...]) -> None:
    words, mib, cores, cards = row
    groups: dict[str, list[dict]] = {"containers": [], "initContainers": []}
    for i, part in enumerate(re.findall(r"(init )?`([^`]+)`", words)):
        limits = {f"nvidia.com/{key}": value for key, value in (pair.split(": ") for pair in part[1].split(", "))}
        container = {"name": f"c{i}", "resources": {"limits": limits}}
        groups["initContainers" if part[0] else "containers"].append(container)
    ask = parse_pod({"metadata": {"name": "p"}, "spec": groups}, NAMES, Defaults())

    truth = Amount(int(mib.replace(",", "")), int(cores or 0), int(cards))
    assert usage_of_ask(ask, a_card()).of("nvidia") == truth


def test_the_table_has_its_rows() -> None:
    assert len(ROWS) == 6


def test_the_command_that_needs_no_cluster_runs(monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    (offline,) = (command for command in COMMANDS if "--file" in command)

    assert main(shlex.split(offline)[1:]) == 0
    assert "create TenantQuota serving" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_one(command: str) -> None:
    parser = argparse.ArgumentParser()
    quota.add_parser(parser.add_subparsers())

    assert callable(parser.parse_args(shlex.split(command)[1:]).run)


def test_every_flag_of_the_verbs_is_explained() -> None:
    parser = argparse.ArgumentParser()
    quota.add_parser(parser.add_subparsers())
    verbs = parser._subparsers._group_actions[0].choices["quota"]._subparsers._group_actions[0].choices
    flags = {option for verb in verbs.values() for action in verb._actions for option in action.option_strings}

    assert flags - set(re.findall(r"-[-a-z]+", PAGE)) == {"-h", "--help", "--kubeconfig"}


def test_every_metric_of_quota_is_described() -> None:
    metrics = Metrics()
    QuotaMetrics.build(metrics)
    names = {family.name + ("_total" if family.type == "counter" else "") for family in metrics.registry.collect()}

    assert names
    assert {name for name in names if f"`{name}`" not in PAGE} == set()


def test_every_key_of_the_policy_is_described_with_its_default() -> None:
    page = (ROOT / "docs" / "policies.md").read_text()
    shipped = yaml.safe_load((ROOT / "examples" / "policies" / "default.yaml").read_text())

    assert parse_policy(shipped) == SchedulingPolicy()
    for key, value in shipped["spec"]["quota"].items():
        text = str(value).lower() if isinstance(value, bool) else f"`{value}`" if isinstance(value, str) else str(value)
        assert f"| `{key}` | {text} |" in page
