"""The only importer of `kubernetes`: client, watches, leases, events, with exceptions of its own."""
