"""The supervisor of MPS control daemons: a program of its own, so that no restart of the device plugin ends a tenant.

It runs the daemons that the device plugin asks for (`kerf.wire.mps`), watches them, and reports. It decides nothing
about cards and pods, and talks to no API server.
"""
