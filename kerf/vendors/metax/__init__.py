"""MetaX: whole cards, and sGPU slices with sharing policies."""
