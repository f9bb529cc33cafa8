"""One small pure folder per vendor, reached through `kerf.vendors.registry` alone.

A folder has the vendor's description in YAML, and where that does not say everything, a module of pure functions.
"""
