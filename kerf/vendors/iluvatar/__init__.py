"""Iluvatar: any size; several cards are whole cards."""
