"""Every vendor that Kerf knows. Adding one is a folder beside this file and a line here.

A folder with descriptions alone has no `__init__.py`; one with functions (`special.py`) has.
"""

from importlib.resources import files

import yaml

from kerf.values.vendor import ResourceNames, Vendor, words_of
from kerf.vendors.amd import special as amd
from kerf.vendors.ascend import special as ascend
from kerf.vendors.build import Special, vendor_of
from kerf.vendors.cambricon import special as cambricon
from kerf.vendors.enflame import special as enflame
from kerf.vendors.iluvatar import special as iluvatar
from kerf.vendors.kunlun import special as kunlun
from kerf.vendors.metax import special as metax
from kerf.vendors.mthreads import special as mthreads
from kerf.vendors.neuron import special as neuron
from kerf.vendors.nvidia import vendor as nvidia
from kerf.wire.vendors import parse_vendor


def _described(path: str, special: Special | None = None, name: str = "", word: str = "") -> Vendor:
    """A vendor by its file beside this one; `name` and `word` fill in a description of several kinds."""
    text = files(__package__).joinpath(path).read_text(encoding="utf-8")
    if word:
        text = text.replace("VENDOR_NAME", name).replace("CARD_WORD", word)
    description = parse_vendor(yaml.load(text, yaml.CSafeLoader))
    return vendor_of(description, special) if special else vendor_of(description)


VENDORS: tuple[Vendor, ...] = (
    nvidia.VENDOR,
    _described("amd/amd.yaml", amd.SPECIAL),
    *(_described("ascend/ascend.yaml", ascend.special_of(k), k.vendor, k.word) for k in ascend.KINDS),
    _described("cambricon/cambricon.yaml", cambricon.SPECIAL),
    _described("hygon/hygon.yaml"),
    _described("hygon/hcu.yaml"),
    *(
        _described("iluvatar/iluvatar.yaml", iluvatar.SPECIAL, word.lower().replace("-", ""), word)
        for word in iluvatar.WORDS
    ),
    _described("mthreads/mthreads.yaml", mthreads.SPECIAL),
    _described("metax/gpu.yaml"),
    _described("metax/sgpu.yaml", metax.SPECIAL),
    _described("enflame/gcu.yaml"),
    _described("enflame/drs.yaml", enflame.SPECIAL),
    _described("kunlun/xpu.yaml", kunlun.WHOLE),
    _described("kunlun/vxpu.yaml", kunlun.SPECIAL),
    _described("neuron/neuron.yaml", neuron.SPECIAL),
    _described("vastai/vastai.yaml"),
    _described("biren/biren.yaml"),
)
NAMES: tuple[ResourceNames, ...] = words_of(VENDORS)
