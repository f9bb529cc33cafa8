"""Messages of the kubelet's APIs, generated from `proto/` by `make gen`. Never edited by hand."""
