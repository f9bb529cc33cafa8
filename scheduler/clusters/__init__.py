"""Several clusters: MultiKueue's dispatcher and what it asks of the worker clusters.

It belongs here if it knows that there is more than one cluster. Everything else in the scheduler knows only its own.
"""
