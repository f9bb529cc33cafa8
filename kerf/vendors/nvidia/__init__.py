"""NVIDIA: cards that Kerf's own device plugin serves."""
