"""Pure decisions of the device plugin: slots, health, matching, start checks."""
