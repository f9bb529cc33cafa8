"""Hardware and files seen as the model's values: NVML, simulated fleets, limiter ledgers."""
