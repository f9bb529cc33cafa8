"""The node's own CDI specs for whole cards, as the vendors' container toolkits write them."""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from kerf.values.device import Card
from kerf.values.vendor import Vendor
from kerf.wire.cdi import parse_spec_devices

_LOG = logging.getLogger("kerf.deviceplugin.node_specs")
OWN_PREFIX = "kerf.dev-grant_"
"""File names that start with this are Kerf's own specs."""


class NodeSpecs:
    """CDI specs in `directories`. A file is parsed again only when it changes."""

    def __init__(self, directories: Iterable[str], vendors: tuple[Vendor, ...]) -> None:
        self._directories = tuple(Path(directory) for directory in directories)
        self._kinds = {vendor.name: vendor.cdi_kind for vendor in vendors}
        self._parsed: dict[tuple[str, int, int], dict[str, dict[str, Mapping[str, Any]]]] = {}

    def edits(
        self, cards: Iterable[Card], instances: tuple[tuple[str, int, str], ...] = ()
    ) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        """(card id, edits) of the cards that have a spec, by id or else by index; of MIG instances by their UUID."""
        found: dict[str, dict[str, Mapping[str, Any]]] = {}
        for path in self._paths():
            for kind, devices in self._devices(path).items():
                found.setdefault(kind, {}).update(devices)
        edits = []
        for card in cards:
            devices = found.get(self._kinds.get(card.vendor, ""), {})
            if card.mig is not None:
                edits += [(uuid, devices[uuid]) for held, _, uuid in instances if held == card.id and uuid in devices]
                continue
            own = devices.get(card.id) or devices.get(str(card.index))
            if own:
                edits.append((card.id, own))
        return tuple(edits)

    def _paths(self) -> list[Path]:
        files = [path for directory in self._directories if directory.is_dir() for path in sorted(directory.iterdir())]
        return [p for p in files if p.suffix in {".json", ".yaml", ".yml"} and not p.name.startswith(OWN_PREFIX)]

    def _devices(self, path: Path) -> dict[str, dict[str, Mapping[str, Any]]]:
        try:
            state = path.stat()
            key = (str(path), state.st_mtime_ns, state.st_size)
            if key not in self._parsed:
                self._parsed = {k: v for k, v in self._parsed.items() if k[0] != str(path)}
                text = path.read_text(encoding="utf-8")
                plain = text if path.suffix == ".json" else json.dumps(yaml.safe_load(text))
                self._parsed[key] = {kind: parse_spec_devices(plain, kind) for kind in self._kinds.values()}
            return self._parsed[key]
        except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
            _LOG.warning("CDI spec %s cannot be read: %s", path, error)
            return {}
