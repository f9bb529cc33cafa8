"""Vendors that an installation describes itself: CardVendor documents in files, beside the vendors that Kerf ships."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from kerf.values.vendor import Vendor
from kerf.vendors.build import vendor_of
from kerf.wire.errors import WireError
from kerf.wire.vendors import parse_vendor

LARGEST_FILE = 1 << 20
HELP = "CardVendor file or folder of them: vendors that Kerf does not know (docs/vendors.md); repeatable"


def with_described(known: tuple[Vendor, ...], paths: Sequence[str]) -> tuple[Vendor, ...]:
    """The known vendors and those that the files describe. Raises WireError that names the file.

    A description may not speak of a resource or a name that another vendor has.
    """
    found = list(known)
    for path in paths:
        for file in _files(Path(path)):
            for document in _documents(file):
                found.append(_described(file, document, found))
    return tuple(found)


def _described(file: Path, document: object, found: list[Vendor]) -> Vendor:
    try:
        vendor = vendor_of(parse_vendor(document))
    except WireError as error:
        raise WireError(f"{file}: {error.field}", error.value, error.fix) from error
    for other in found:
        if other.name == vendor.name:
            raise WireError(f"{file}: metadata.name", vendor.name, "give it a name that no other vendor has")
        shared = set(other.words.all) & set(vendor.words.all)
        if shared:
            fix = f"these are the words of {other.name}: a resource belongs to one vendor"
            raise WireError(f"{file}: spec.words", ", ".join(sorted(shared)), fix)
    return vendor


def _files(path: Path) -> list[Path]:
    """A file, or a folder's YAML files by name. A mounted ConfigMap has links and hidden folders of its own."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in {".yaml", ".yml"} and file.is_file())


def _documents(file: Path) -> Iterator[Any]:
    try:
        text = file.read_text(encoding="utf-8")
        if len(text) > LARGEST_FILE:
            raise WireError(str(file), f"{len(text)} characters", f"write at most {LARGEST_FILE}")
        yield from (document for document in yaml.safe_load_all(text) if document is not None)
    except (OSError, UnicodeDecodeError) as error:
        raise WireError(str(file), str(error), "name a readable file or folder") from error
    except yaml.YAMLError as error:
        raise WireError(str(file), str(error).replace("\n", " "), "write YAML") from error
