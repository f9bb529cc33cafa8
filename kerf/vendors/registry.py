"""Every vendor Kerf knows. Adding one is a file beside this one and a line here."""

from kerf.values.vendor import ResourceNames, Vendor
from kerf.vendors import nvidia

VENDORS: tuple[Vendor, ...] = (nvidia.VENDOR,)
NAMES: tuple[ResourceNames, ...] = tuple(vendor.words for vendor in VENDORS)
