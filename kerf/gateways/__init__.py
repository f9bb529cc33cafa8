"""Gateways in front of the models: which pods serve what, with which weight, as the objects of each gateway. Pure.

It belongs here if it is about what a gateway is given. Writing to a cluster is `scheduler/gateways`; what gateways
report of use is `kerf.wire.gatewayusage` and `kerf.metering.attribute`.
"""
