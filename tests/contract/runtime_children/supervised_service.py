"""A real service for tests: MODE COUNT FOLDER METRICS_PORT GRACE STALLED_AFTER."""

import sys
from pathlib import Path

from gantry_runtime.entry import run
from gantry_runtime.listening import listen
from gantry_runtime.supervision import ProcessSpec, Supervisor


def main() -> int:
    mode, count, folder, port, grace, stalled_after = sys.argv[1:]
    door = listen("127.0.0.1", 0, "door")
    (Path(folder) / "door").write_text(str(door.getsockname()[1]))
    spec = ProcessSpec(
        name="echo",
        module="supervised_child",
        arguments=(mode, folder),
        count=int(count),
        sockets={"door": door},
        stop_grace=float(grace),
        stalled_after=float(stalled_after),
    )
    return Supervisor("demo", [spec], "127.0.0.1", int(port)).run()


if __name__ == "__main__":
    sys.exit(run(main))
