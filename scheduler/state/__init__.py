"""Live state under one lock: the only writer of the fleet index and the ledger."""
