"""Kerf's shared kernel: the one package that the daemons and the CLI import.

Layers, upper may import lower: cli > testing > kube | obs | probes | config > vendors > wire > model.
"""
