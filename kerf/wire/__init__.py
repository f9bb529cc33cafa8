"""Pure codecs between the model and every format that leaves a process. Versioned, round-trip tested, no I/O."""
