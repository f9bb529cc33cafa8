"""The scheduler extender: filter, prioritize, preempt, bind; run as `python -m scheduler`.

Layers, upper may import lower: main > leader > extender | kueue | clusters > placing >
metrics > state > solver | policies | quota > core.
"""
