"""Tenant quota in the cluster: limits read from its objects, Kueue's objects kept, workloads checked for places."""
