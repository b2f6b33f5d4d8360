"""The worker with a `poisoned_pool` for its index and the real pool for its chores."""

import sys
from dataclasses import replace

from gantry_runtime.supervision import Supervisor
from gantry_worker import app


class PoisonedSupervisor(Supervisor):
    """Starts another module for the processes that index."""

    def __init__(self, service, processes, address, metrics_port) -> None:
        poisoned = [
            replace(spec, module="poisoned_pool") if spec.name == "index" else spec
            for spec in processes
        ]
        super().__init__(service, poisoned, address, metrics_port)


app.Supervisor = PoisonedSupervisor
sys.exit(app.main())
