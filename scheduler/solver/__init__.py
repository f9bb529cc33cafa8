"""The planner: packs waiting pods together, plans gangs, proposes moves. Pure; the only importer of ortools.

It belongs here if it answers for several pods at once. Rules for one pod on one node are in core, which this package
uses, except in `check`, which recomputes them.
"""
