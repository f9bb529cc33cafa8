"""Talking to the kubelet over gRPC, and finding out which container a call is about. Checks are made in the gate."""
