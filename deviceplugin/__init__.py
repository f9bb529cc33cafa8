"""The device plugin: registers slots with the kubelet, publishes the inventory, keeps grants; `python -m deviceplugin`."""
