"""The models that Kerf ships, as rows with their sources. A row has a model's shape, never its weights."""

import json
from functools import cache
from importlib.resources import files

from kerf.sizing.catalogue import Catalogue, parse_row


@cache
def shipped() -> Catalogue:
    """Every row, read once."""
    folder = files("kerf.catalogue").joinpath("rows")
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".json"))
    return Catalogue(tuple(parse_row(json.loads(folder.joinpath(name).read_text("utf-8")), name) for name in names))
