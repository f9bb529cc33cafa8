"""`kerf model …`: the slice that a model needs, the cards that hold it, catalogues that can run, and the pod for it."""
