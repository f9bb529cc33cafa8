"""Pods that wait: plan them jointly, make room for them, wake kube-scheduler, and expire what never came."""
