"""Tenant quota, pure: what the cards give, how tenants share it, and the Kueue objects that say so."""
