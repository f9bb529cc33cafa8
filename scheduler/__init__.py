"""The scheduler extender: filter, prioritize, preempt, bind; run as `python -m scheduler`.

Layers, upper may import lower: main > extender | loops > metrics > cache > solver | policies | quota > core.
"""
