"""Pure admission: a pod and settings in, JSON-patch operations or a refusal out.

It belongs here if it can be decided from the object, the settings and the tenants' accounts. A lookup in the cluster
never does: the server reads, and passes values in.
"""
