"""The HTTPS server of the webhook: reviews, certificates and their rotation, and the tenants that it watches.

It belongs here if it is about a connection, a Secret or a watch. What a pod may ask for is decided in core.
"""
