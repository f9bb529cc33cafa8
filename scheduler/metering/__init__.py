"""Metering in the cluster: the leader counts what pods hold, stores it by hour, and shows it as metrics.

Here: which pods, cards and engines there are, and when to write. The arithmetic is `kerf.metering`.
"""
