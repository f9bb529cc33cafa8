"""The mutating webhook: fills, validates, strips forgeries; `python -m webhook`."""
