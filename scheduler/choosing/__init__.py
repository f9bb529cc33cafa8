"""Which kind of cards a new pod gets that accepts several: the webhook asks before the pod is stored.

It belongs here if it is about that question: what was promised a moment ago, what owners waited too long for, the Event
of a pod that waits. The order of kinds is in `policies/kinds`, places are the desk's.
"""
