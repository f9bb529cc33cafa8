"""The HTTP face towards kube-scheduler: decode, ask the cache, encode. Bind is the only verb with effects."""
