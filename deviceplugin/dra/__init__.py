"""The DRA driver gpu.kerf.dev: beside device plugins, a second way to learn which container is about to start.

Belongs here: the kubelet's two protocols for DRA drivers, the node's ResourceSlices, and whose hands each card is in.
Never: whether a container may start (the gate), what a container gets (the gate and its files).
"""
