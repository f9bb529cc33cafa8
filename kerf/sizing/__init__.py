"""What a model needs: its shape, weights and cache, the slice of a card that serves it, and the pod that asks for it.

Pure: configs, headers and catalogues come in as decoded values; no file, no clock, no network. What a function does not
know it refuses by name (WireError); it never guesses. Every constant has its source beside it.
"""
