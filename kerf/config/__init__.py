"""Settings: a frozen dataclass per concern and the one loader (flags over environment over file)."""
