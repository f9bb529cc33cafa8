"""What Kubernetes' own allocator would give the claims of pods that are not bound: for `simulate` and `explain`.

Belongs here: which claims a pod has, a model of the allocator for the devices that Kerf publishes, who refuses what.
Never: what claims mean once they are allocated (`kerf.values.claim`), what a node offers (`deviceplugin.core`).
"""
