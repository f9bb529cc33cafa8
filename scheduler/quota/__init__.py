"""Tenant quota: pure roll-ups and targets."""
