"""A second vendor for the device plugin's tests: NVIDIA's behaviour under other names."""

from dataclasses import replace

from kerf.vendors.registry import VENDORS

_WORDS = VENDORS[0].words
ACME = replace(
    VENDORS[0],
    name="acme",
    words=replace(
        _WORDS,
        vendor="acme",
        count="acme.example/npu",
        memory="acme.example/mem",
        memory_percent="acme.example/mem-percentage",
        cores="acme.example/cores",
        priority="acme.example/priority",
    ),
    inventory_key="",
    probe="",
)
BOTH = (VENDORS[0], ACME)
