"""Placement policies: one small function each, in a dict by name."""
