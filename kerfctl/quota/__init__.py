"""`kerf quota`: tenant files, what tenants would get, and what they hold and wait for."""
