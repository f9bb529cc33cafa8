"""Enflame: whole cards, and DRS slices by profile."""
