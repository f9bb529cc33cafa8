"""The kubelet side of the device plugin: gRPC, sockets, files."""
