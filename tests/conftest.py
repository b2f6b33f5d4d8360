"""How property tests run: however busy the machine is, slow is not wrong."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "gantry", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("gantry")
