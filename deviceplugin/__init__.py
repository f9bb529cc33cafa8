"""The device plugin: slots for the kubelet, the node's inventory, grants kept; run with `python -m deviceplugin`."""
