"""Cambricon: any size, and a profile on the pod."""
