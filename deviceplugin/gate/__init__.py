"""Whether a container may start: list the node's pods, check the grant, write the files.

The gate is given a pod and its containers. How they were identified (slots and PodResources today) is not its subject:
it imports neither the kubelet's room nor gRPC.
"""
