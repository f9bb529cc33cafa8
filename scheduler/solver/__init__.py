"""The planner: packs the pending set jointly, plans gangs, proposes repacking. Pure; the only importer of ortools."""
