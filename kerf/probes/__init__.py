"""Hardware and files as values: NVML, simulated fleets, limiter ledgers, and the rule by which cards recover."""
