"""Nouns: frozen, slotted values with arithmetic and invariants. No I/O, no clock, no Kubernetes JSON."""
