"""Which vendors a plugin serves, from its `--resource` flags."""

from deviceplugin.core.slots import Resource
from kerf.values.vendor import INVENTORY, Vendor
from kerf.wire.errors import WireError


def parse_resources(given: tuple[str, ...], vendors: tuple[Vendor, ...]) -> tuple[Resource, ...]:
    """The resources of `--resource`: a vendor's own name, or VENDOR=NAME for another one. Raises WireError."""
    by_name = {vendor.name: vendor for vendor in vendors}
    by_count = {vendor.words.count: vendor for vendor in vendors}
    found = []
    for item in given:
        owner, equals, name = item.partition("=")
        vendor = by_name.get(owner) if equals else by_count.get(item)
        if vendor is None:
            known = ", ".join(sorted(by_count))
            raise WireError("--resource", item, f"use {known}, or VENDOR=NAME with one of {', '.join(sorted(by_name))}")
        suffix = vendor.inventory_key.removeprefix(INVENTORY)
        found.append(Resource(name if equals else item, vendor.name, suffix))
    if len({resource.vendor for resource in found}) != len(found):
        raise WireError("--resource", ", ".join(given), "name one resource per vendor")
    return tuple(found)
