"""How property tests run, however busy the machine is; and which files are run together."""

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

settings.register_profile(
    "gantry", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("gantry")

_SHARED_RUN = "tests/system/shared_run/"


class _Scheduling(LoadFileScheduling):
    """A file's tests stay together; so do those of all files that share a run of Gantry."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(_SHARED_RUN):
            return _SHARED_RUN
        return super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling | None:
    """Used with `--dist loadfile`."""
    if config.getvalue("dist") != "loadfile":
        return None
    return _Scheduling(config, log)
