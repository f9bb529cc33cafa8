"""A vendor described by a file alone works through webhook and scheduler; a bad description says what is wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.config.vendors import with_described
from kerf.vendors.registry import VENDORS
from kerf.wire.errors import WireError
from tests.vendors.shop import Shop, a_vendor_node, asking

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "vendors"
ACME = yaml.safe_load((EXAMPLE / "acme.yaml").read_text())


def test_a_described_vendor_works_through_webhook_and_scheduler():
    vendors = with_described(VENDORS, [str(EXAMPLE)])
    shop = Shop(a_vendor_node(**{"acme.example/npu": "2"}), vendors=vendors)

    got = shop.take(asking(**{"acme.example/npu": 1, "acme.example/npu-memory": 9}))

    assert got.slices == [("n-acme-0", "acme", 16384, 50)]
    assert got.notes == {
        "acme.example/slices": "n-acme-0,NPU,16384,50:;",
        "acme.example/cards": "0",
        "acme.example/phase": "bound",
    }


@pytest.mark.parametrize(
    ("units", "became"),
    [
        (8, ""),
        (9, "9,216 MiB asked: the pod gets the template medium, 16,384 MiB, the smallest that holds what is asked"),
        (17, "17,408 MiB asked: no template holds what is asked: the pod gets a whole card"),
    ],
)
def test_the_pods_message_says_which_template_its_memory_becomes(units: int, became: str):
    shop = Shop(a_vendor_node(**{"acme.example/npu": "2"}), vendors=with_described(VENDORS, [str(EXAMPLE)]))

    got = shop.take(asking(**{"acme.example/npu": 1, "acme.example/npu-memory": units}))

    field = "spec.containers[main].resources.limits[acme.example/npu-memory]"
    assert got.warnings == ((f"{field}: {became}",) if became else ())


def changed(path: str, value: Any) -> dict[str, Any]:
    document = yaml.safe_load(yaml.safe_dump(ACME))
    holder = document
    *above, key = path.split(".")
    for part in above:
        holder = holder[part]
    holder[key] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("kind", "Vendor", "write apiVersion: kerf.dev/v1alpha1 and kind: CardVendor"),
        ("metadata.name", "Acme", "write 1 to 40 lower-case letters and digits"),
        ("metadata.name", "hygon", "give it a name that no other vendor has"),
        ("spec.words.count", "hygon.com/dcunum", "these are the words of hygon"),
        ("spec.words.colour", "a/b", "spec.words.colour: 'a/b': unknown key"),
        ("spec.words.count", "two words", "write a name of Kubernetes"),
        ("spec.words.count", "cpu", "spec.words.count: 'cpu': write an extended resource"),
        ("spec.words.memory", "kubernetes.io/memory", "write an extended resource"),
        (
            "spec.words.memory",
            "acme.example/npu",
            "spec.words: 'acme.example/npu': give each of them a name of its own",
        ),
        ("spec.words.useTypes", "kerf.dev/grant", "names of kerf.dev are Kerf's own"),
        ("spec.words.cores", "quota.kerf.dev/cores", "names of kerf.dev are Kerf's own"),
        ("spec.annotations", {"kerf.dev/grant": "slices"}, "names of kerf.dev are Kerf's own"),
        ("spec.annotations", {"acme.example/use-ids": "slices"}, "pods choose by it (spec.words)"),
        ("spec.pluginNotes", ["kerf.dev/grant"], "names of kerf.dev are Kerf's own"),
        ("spec.lock", "kerf.dev/fault-cordon", "names of kerf.dev are Kerf's own"),
        (
            "spec.inventory",
            {"from": "register", "annotation": "kerf.dev/inventory"},
            "names of kerf.dev are Kerf's own",
        ),
        ("spec.units.memoryMiB", 0, "spec.units.memoryMiB: '0': write a whole number from 1"),
        ("spec.slicing", {"kind": "some"}, "spec.slicing.kind: 'some': use one of any, whole, partitions, templates"),
        ("spec.slicing", {"kind": "templates", "templates": []}, "list at least one template"),
        (
            "spec.slicing",
            {
                "kind": "templates",
                "templates": [{"name": "b", "memoryMiB": 2, "cores": 1}, {"name": "a", "memoryMiB": 1, "cores": 1}],
            },
            "templates must rise",
        ),
        ("spec.inventory.from", "nvml", "spec.inventory.from: 'nvml': use one of register, capacity"),
        ("spec.inventory.id", "card-{index}", "write a text with {node} and {index}"),
        ("spec.inventory.memoryMiB", 0, "write a card's MiB"),
        ("spec.annotations", {"a/b": "colour"}, "use one of slices, indexes, node, seconds, nanoseconds"),
        ("spec.allocated", "acme.example/cards", "name an annotation of spec.annotations that has slices"),
        ("spec.env", {"A": "colour"}, "spec.env.A: 'colour'"),
    ],
)
def test_a_bad_description_names_the_file_the_field_and_the_fix(tmp_path: Path, path: str, value: Any, said: str):
    file = tmp_path / "vendor.yaml"
    file.write_text(yaml.safe_dump(changed(path, value)))

    with pytest.raises(WireError) as error:
        with_described(VENDORS, [str(tmp_path)])

    assert str(error.value).startswith(str(file))
    assert said in str(error.value)


def test_a_missing_file_and_a_broken_one_are_named(tmp_path: Path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")

    with pytest.raises(WireError, match="name a readable file or folder"):
        with_described(VENDORS, [str(tmp_path / "none.yaml")])
    with pytest.raises(WireError, match="write YAML"):
        with_described(VENDORS, [str(broken)])
