"""Settings of all tests."""

from hypothesis import HealthCheck, settings

# Machines differ and are shared: a property fails on what it says, never on the clock.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
