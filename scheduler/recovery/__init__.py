"""What happens to the tenants of a card that failed: cordon, breaker, evictions, groups, remedies. The leader does it.

It belongs here if it acts because of a card's health. What a fault means is in `kerf.faults`; a card's state is the
device plugin's.
"""
