"""Models by name: the rows that Kerf ships and those that a cluster adds. Each is parsed when it is first asked for."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kerf.sizing.estimate import Estimate, Model, estimate, read_model
from kerf.sizing.request import Ask
from kerf.values.learned import Taught
from kerf.wire.errors import WireError
from kerf.wire.fields import list_at, object_at, text, whole

MOST_BYTES = 2**50
"""A petabyte: more than any model's weights."""
MOST_KEPT = 256
"""Estimates that a catalogue keeps. Pods of one template ask for the same one."""


@dataclass(frozen=True, slots=True)
class Row:
    """One model: its config.json as it is, and where it was read."""

    name: str
    repository: str
    config: Mapping[str, Any]
    also: tuple[str, ...] = ()
    """Further repositories with the same shape."""
    stored: int | None = None
    """Bytes of all weights where the files say so."""
    source: str = ""

    @property
    def model(self) -> Model:
        """The row as a model. Raises WireError for a row of no use."""
        return read_model(self.config, self.stored)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name by which the model can be asked for."""
        return tuple(name for name in (self.name, self.repository, *self.also) if name)


def parse_row(document: object, where: str) -> Row:
    """A row as `kerf model publish` writes it. Unknown keys are ignored. Raises WireError."""
    item = object_at(document, where)
    also = list_at(item.get("also"), f"{where}.also")
    if not all(isinstance(name, str) for name in also):
        raise WireError(f"{where}.also", item.get("also"), "write a list of repositories")
    return Row(
        name=text(item, "name", where, None),
        repository=text(item, "repository", where, None) if item.get("repository") else "",
        config=object_at(item.get("config"), f"{where}.config"),
        also=tuple(also),
        stored=whole(item, "weights_bytes", where, None, (1, MOST_BYTES)) if item.get("weights_bytes") else None,
        source=str(item.get("source", "")),
    )


def render_row(row: Row) -> dict[str, Any]:
    """The row as JSON."""
    found: dict[str, Any] = {
        "name": row.name,
        "repository": row.repository,
        "also": list(row.also),
        "source": row.source,
    }
    found |= {"weights_bytes": row.stored, "config": row.config}
    return {key: value for key, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Rows by name. Names compare without case. What was parsed and estimated is kept."""

    rows: tuple[Row, ...] = ()
    _by_name: dict[str, Row] = field(init=False, default_factory=dict, compare=False, repr=False)
    _models: dict[str, Model] = field(init=False, default_factory=dict, compare=False, repr=False)
    _estimates: dict[tuple[str, Ask, Taught | None], Estimate] = field(
        init=False, default_factory=dict, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        for row in self.rows:
            for name in row.names:
                self._by_name[name.lower()] = row

    def beside(self, rows: Iterable[Row]) -> "Catalogue":
        """The catalogue with further rows, which replace rows of the same name."""
        return Catalogue((*self.rows, *rows))

    def find(self, name: str) -> Row | None:
        """The row of a name or a repository."""
        return self._by_name.get(name.lower())

    def model(self, name: str) -> Model | None:
        """The model of a name or a repository, None where no row has it. Raises WireError for a row of no use."""
        row = self.find(name)
        if row is None:
            return None
        if row.name not in self._models:
            self._models[row.name] = row.model
        return self._models[row.name]

    def repository(self, name: str) -> str:
        """Where a model's weights are: the repository that the name is, else the row's own; empty where none is."""
        row = self.find(name)
        if row is None:
            return ""
        return next((also for also in row.also if also.lower() == name.lower()), row.repository)

    def estimate(self, name: str, ask: Ask, taught: Taught | None = None) -> Estimate:
        """The estimate for a model by name, corrected by lessons. Raises WireError."""
        model = self.model(name)
        if model is None:
            raise WireError("model", name, self.hint(name))
        key = (name.lower(), ask, taught)
        if key not in self._estimates:
            if len(self._estimates) >= MOST_KEPT:
                self._estimates.clear()
            self._estimates[key] = estimate(model, ask, taught)
        return self._estimates[key]

    def near(self, name: str) -> list[str]:
        """Names that are much like this one."""
        return difflib.get_close_matches(name.lower(), self._by_name, n=3, cutoff=0.5)

    def hint(self, name: str) -> str:
        """What to do about a name that no row has."""
        near = self.near(name)
        known = f"did you mean {' or '.join(near)}? " if near else ""
        return f"{known}`kerf model publish` adds a model to the cluster's catalogue"
