"""`kerf quota`: tenant files, what tenants would get, and how their quota stands."""
