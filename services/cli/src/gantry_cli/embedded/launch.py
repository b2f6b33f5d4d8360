"""Becomes an engine: drops root, ties its life to ours, and executes the engine's binary.

``python -I -m gantry_cli.embedded.launch UID GID SIGNAL PARENT FOLDER BINARY ARGUMENTS...``
"""

import os
import sys

from gantry_domain.errors import GantryError
from gantry_runtime.lifeline import PARENT, die_with_parent

FAILED = 126


def main(arguments: list[str]) -> int:
    """Never returns where all goes well."""
    uid, gid, signal_number, parent, folder, binary, *rest = arguments
    try:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(int(gid))
            os.setuid(int(uid))
        # After setuid, which would clear it. It survives the exec.
        die_with_parent(int(signal_number), {PARENT: parent})
        os.umask(0o077)
        os.chdir(folder)
        environ = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin", "HOME": folder}
        os.execve(binary, [binary, *rest], environ)  # noqa: S606 (no shell wanted)
    except (OSError, GantryError) as error:
        sys.stderr.write(f"gantry: {binary} cannot be started in {folder}: {error}\n")
    return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
