"""Pure decisions of the device plugin: slots, identification, start checks, edits, use against grant."""
