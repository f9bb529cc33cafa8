"""Tenant quota in the cluster: read its objects, write Kueue's objects and statuses, hold places for workloads.

It belongs here if it reads or writes TenantQuotas, ResourceQuotas or Kueue's objects. How shares are computed is in
quota, and what a pod may take of them is asked of state.
"""
