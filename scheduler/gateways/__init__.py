"""Gateways in front of the models: the leader keeps their objects, and says when a replica may leave.

It belongs here if it writes for a gateway. What an object says is `kerf.gateways`; the reports of gateways are received
by `scheduler/usage`.
"""
