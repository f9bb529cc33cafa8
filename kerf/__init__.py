"""Kerf's shared kernel: the one package that the daemons and the CLI import. It imports none of them.

Layers, upper may import lower: testing > kube | probes | config | http > obs > views > vendors > wire > values.
"""
