"""Every vendor Kerf knows. Adding one is a file beside this one and a line here."""

from kerf.values.vendor import ResourceNames, Vendor, words_of
from kerf.vendors import nvidia

VENDORS: tuple[Vendor, ...] = (nvidia.VENDOR,)
NAMES: tuple[ResourceNames, ...] = words_of(VENDORS)
