"""Tenant quota, pure: what the cards give, how tenants share it, and the Kueue objects that express it.

It belongs here if it is arithmetic about limits. What pods hold now is in state; I/O is in kueue.
"""
