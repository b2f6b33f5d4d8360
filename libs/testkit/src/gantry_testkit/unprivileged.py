"""The account under which tests run servers: PostgreSQL refuses to run as root."""

import ctypes
import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def account() -> pwd.struct_passwd:
    """`nobody` for root, else who runs the tests."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def private_folder(prefix: str) -> Path:
    """A new folder in the temporary one, with a short path, that only `account` may enter."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    who = account()
    os.chown(folder, who.pw_uid, who.pw_gid)
    folder.chmod(0o700)
    return folder


def _identity() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    who = account()
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


def run(command: Sequence[str | Path], *, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Runs a command to its end as `account`, its output kept together."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={"PATH": os.environ.get("PATH", ""), "TZ": "UTC"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        **_identity(),
    )


def spawn(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    log: IO[bytes],
    stop_signal: signal.Signals,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a server as `account`; `stop_signal` reaches it when the tests are killed."""

    def die_with_the_tests() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, stop_signal)

    return subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        env={"PATH": os.environ.get("PATH", ""), "TZ": "UTC", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for pytest, which then stops the server in order
        preexec_fn=die_with_the_tests,  # noqa: PLW1509 - it takes no lock
        **_identity(),
    )
