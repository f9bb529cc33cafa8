"""docs/contract.md does what it says: every example and every row is run."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.values.accounts import ClassAccount
from kerf.values.grant import CardUse, ContainerGrant, Grant, Slice, card_uses
from kerf.values.policy import Defaults
from kerf.values.quota import Amount, Bound
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.admission import Answer, Review
from kerf.wire.annotations import parse_grant, render_grant
from kerf.wire.inventory import parse_inventory, render_inventory
from kerf.wire.resources import parse_pod, stages_of
from tests.webhook.json_patch import apply
from tests.webhook.tenants import A100_40, A100_40_MIB, a_book, a_class_book, answer_to, settings_of
from webhook.core.mutate import mutate
from webhook.core.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "contract.md").read_text()
RESOURCES = {name.removeprefix("nvidia.com/") for name in NAMES[0].all}


def create(pod: dict[str, Any]) -> Answer:
    return mutate(Review("u", "CREATE", "Pod", "default", "joe", pod, {}), Settings(VENDORS))


def stored(pod: dict[str, Any]) -> Any:
    answer = create(pod)
    assert answer.allowed, answer.message
    return apply(pod, answer.patch)


def blocks(language: str) -> list[Any]:
    return [yaml.safe_load(text) for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)]


def rows(header: str) -> Iterator[list[str]]:
    """The cells of a table that hold code, without their backticks."""
    table = PAGE.split(f"\n{header}\n")[1].split("\n\n")[0]
    for line in table.splitlines()[1:]:
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        yield [cell.strip().removeprefix("`").removesuffix("`") for cell in cells]


def amounts(text: str) -> dict[str, str]:
    pairs = (pair.split(": ", 1) for pair in text.split(", "))
    return {f"nvidia.com/{name}": amount for name, amount in pairs}


def a_pod_that_says(text: str) -> dict[str, Any]:
    """A pod with the words of a table's first column: resources, an annotation, or a field of the spec."""
    word = text.split(": ", 1)[0]
    resources = amounts(text) if word in RESOURCES else {"nvidia.com/gpumem": "8000"}
    spec = {"containers": [{"name": "main", "resources": {"limits": resources}}]}
    if word == "nodeName":
        spec |= yaml.safe_load(text)
    annotations = yaml.safe_load(text) if "/" in word else {}
    return {"metadata": {"name": "p", "annotations": annotations}, "spec": spec}


def contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(contains, whole, part))
    return str(whole) == str(part)


def test_the_first_example_is_stored_as_shown() -> None:
    sent, shown, _ = blocks("yaml")

    assert contains(stored(sent), shown)


@pytest.mark.parametrize(("written", "result"), [row[:2] for row in rows("| you write | stored | what you get |")])
def test_what_the_table_says_is_filled_in(written: str, result: str) -> None:
    limits = stored(a_pod_that_says(written))["spec"]["containers"][0]["resources"]["limits"]

    assert limits == amounts(result)


@pytest.mark.parametrize(("written", "result", "warning"), list(rows("| you write | stored | warning |")))
def test_what_the_table_says_is_bent(written: str, result: str, warning: str) -> None:
    pod = a_pod_that_says(written)

    assert stored(pod)["spec"]["containers"][0]["resources"]["limits"] == amounts(result)
    assert [text.split(": ", 1)[1] for text in create(pod).warnings] == [warning]


@pytest.mark.parametrize(("written", "answer"), list(rows("| you write | the answer |")))
def test_what_the_table_says_is_refused(written: str, answer: str) -> None:
    assert create(a_pod_that_says(written)) == Answer(allowed=False, message=answer)


def in_a_tenants_namespace(pod: dict[str, Any], *classes: ClassAccount) -> Answer:
    return answer_to(pod, settings_of([a_book(*classes)]))


@pytest.mark.parametrize(("written", "counted"), list(rows("| you write | counted |")))
def test_what_the_table_says_is_counted(written: str, counted: str) -> None:
    pod = a_pod_that_says(written)
    limits = apply(pod, in_a_tenants_namespace(pod).patch)["spec"]["containers"][0]["resources"]["limits"]

    prefix = "quota.kerf.dev/nvidia-"
    found = {name.removeprefix(prefix): value for name, value in limits.items() if name.startswith(prefix)}
    assert found == dict(pair.split(": ") for pair in counted.split(", "))


@pytest.mark.parametrize(("written", "answer"), list(rows("| in a tenant's namespace you write | the answer |")))
def test_what_the_table_says_is_refused_in_a_tenants_namespace(written: str, answer: str) -> None:
    several = (a_class_book(), a_class_book(A100_40, A100_40_MIB))

    assert in_a_tenants_namespace(a_pod_that_says(written), *several) == Answer(allowed=False, message=answer)


def test_the_sentence_of_a_full_tenant_is_the_one_shown() -> None:
    full = a_class_book(limit=Bound(81_559), used=Amount(40_000), pending=Amount(20_000))
    settings = settings_of([a_book(full, enforced=True)])

    assert f"> {answer_to(a_pod_that_says('gpumem: 24000'), settings).message}\n" in PAGE


def test_the_sum_of_the_last_example_is_right() -> None:
    pod = stored(blocks("yaml")[2])
    asks = parse_pod(pod, NAMES, Defaults()).containers
    held = (ContainerGrant(a.name, (Slice("GPU-1", a.vendor, a.memory_on(81_559), a.cores),)) for a in asks)

    (use,) = card_uses(Grant(tuple(held)), stages_of(pod["spec"])).values()

    said = re.search(r"on one card: ([\d,]+) MiB .*?, (\d+) % .*?, (\d+) slots", PAGE)
    assert said
    assert use == CardUse(*(int(number.replace(",", "")) for number in said.groups()))


def test_the_annotations_are_shown_as_they_are_written() -> None:
    grant, inventory = (json.dumps(block, separators=(",", ":")) for block in blocks("json"))

    assert render_grant(parse_grant(grant)) == grant
    assert render_inventory(parse_inventory(inventory)) == inventory


def test_every_word_of_the_contract_is_on_the_page() -> None:
    names = NAMES[0]
    words = {
        *names.all,
        names.use_ids,
        names.avoid_ids,
        names.use_types,
        names.avoid_types,
        names.modes,
        names.same_numa,
    }

    assert [word for word in sorted(words) if f"`{word}`" not in PAGE] == []
