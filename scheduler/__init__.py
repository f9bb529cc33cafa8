"""The scheduler extender: filter, prioritize, preempt, bind; run as `python -m scheduler`.

Layers, upper may import lower: main > leader > extender | kueue | clusters > placing >
metrics > state > solver | policies | quota > core. A room is named by its subject. What is true without a cluster
(a function of values) belongs in core, policies, solver or quota; what remembers, in state; what calls the API server
or waits, in extender, placing, kueue or clusters.
"""
