"""Pods that wait: plan them together, preempt for them, wake kube-scheduler, and expire what never came.

It belongs here if it acts for pods that have no node yet, or have just been given one, with or without quota. What
needs Kueue is in kueue; what decides where a pod goes is in core and solver.
"""
