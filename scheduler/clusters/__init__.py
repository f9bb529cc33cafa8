"""Several clusters: MultiKueue's dispatcher and what it asks of the worker clusters."""
