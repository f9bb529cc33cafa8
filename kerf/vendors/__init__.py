"""One small pure file per vendor, reached through `kerf.vendors.registry` alone."""
