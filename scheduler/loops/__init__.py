"""Background loops: each reads, plans (pure), applies."""
