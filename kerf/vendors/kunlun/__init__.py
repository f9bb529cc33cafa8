"""Kunlunxin: whole cards, and vXPU slices of one size a card."""
