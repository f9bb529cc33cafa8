"""HTTP for kube-scheduler: decode, ask the desk, encode. Bind is the only verb with effects.

It belongs here if it is about a request: its verb, its limits, the replica that answers it. Which node or card is
chosen is decided elsewhere.
"""
