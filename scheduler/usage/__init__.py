"""The server of gateways' reports of use: a process of its own, so that no gateway reaches the scheduler.

It belongs here if it is about receiving and storing reports. What they cost is `kerf.metering.attribute`.
"""
