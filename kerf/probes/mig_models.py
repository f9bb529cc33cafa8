"""MIG geometry of the models that can be simulated, as their driver says.

Source: NVML of driver 580.159.04, read on a rented H100 80GB HBM3 and H200 on 2026-11-27. Published tables and mocks
disagree with each other (some give 3g three memory slices, and 1g with double memory one), so no other model is here.
On hardware the probe reads the driver and this table is not used.
"""

from kerf.values.card_names import canonical
from kerf.values.mig import Geometry, Profile

SMS = 132
"""Of the largest instance, on both models."""
_SHAPES = (
    # id, name without GB, SMs, memory slices, starts
    (19, "1g", 16, 1, (0, 1, 2, 3, 4, 5, 6)),
    (20, "1g+me", 16, 1, (0, 1, 2, 3, 4, 5, 6)),
    (15, "1g double", 26, 2, (0, 2, 4, 6)),
    (14, "2g", 32, 2, (0, 2, 4)),
    (9, "3g", 60, 4, (0, 4)),
    (5, "4g", 64, 4, (0,)),
    (0, "7g", SMS, 8, (0,)),
)
_NAMES: dict[str, dict[str, tuple[str, int]]] = {
    "NVIDIA H100 80GB HBM3": {
        "1g": ("1g.10gb", 9_984),
        "1g+me": ("1g.10gb+me", 9_984),
        "1g double": ("1g.20gb", 20_096),
        "2g": ("2g.20gb", 20_096),
        "3g": ("3g.40gb", 40_448),
        "4g": ("4g.40gb", 40_448),
        "7g": ("7g.80gb", 81_152),
    },
    "NVIDIA H200": {
        "1g": ("1g.18gb", 16_384),
        "1g+me": ("1g.18gb+me", 16_384),
        "1g double": ("1g.35gb", 33_280),
        "2g": ("2g.35gb", 33_280),
        "3g": ("3g.71gb", 71_424),
        "4g": ("4g.71gb", 71_424),
        "7g": ("7g.141gb", 143_360),
    },
}
"""Names and MiB of each shape by model."""
GEOMETRIES: dict[str, Geometry] = {
    model: Geometry(
        tuple(
            Profile(number, *names[shape], sms * 100 // SMS, size, starts)
            for number, shape, sms, size, starts in _SHAPES
        )
    )
    for model, names in _NAMES.items()
}
"""By model as the driver reports it, without any instance."""


def known_geometry(model: str) -> Geometry | None:
    """The geometry of a model without instances; None for one whose placements nobody has read from a driver."""
    return next((found for name, found in GEOMETRIES.items() if canonical(name) == canonical(model)), None)
