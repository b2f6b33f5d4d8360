"""Who the engines run as: we ourselves, or, as PostgreSQL refuses root, an unprivileged account."""

import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gantry_domain.errors import ConfigurationError

_UNPRIVILEGED = "nobody"
_NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Account:
    """A user and a group."""

    name: str
    uid: int
    gid: int

    @property
    def is_us(self) -> bool:
        """Whether it is the account that we run as."""
        return self.uid == os.geteuid()

    def unreachable(self, path: Path) -> Path | None:
        """The first of `path` and its parents that this account may not pass through, if any."""
        for folder in (*reversed(path.absolute().parents), path):
            try:
                found = folder.stat()
            except OSError:
                return folder
            if self.uid == found.st_uid:
                may = found.st_mode & stat.S_IXUSR
            elif self.gid == found.st_gid:
                may = found.st_mode & stat.S_IXGRP
            else:
                may = found.st_mode & stat.S_IXOTH
            if self.uid != 0 and not may:
                return folder
        return None

    def own_folder(self, folder: Path) -> None:
        """Make `folder` for this account alone.

        :raises ConfigurationError: it belongs to another account.
        """
        folder.mkdir(mode=0o700, exist_ok=True)
        if not folder.is_dir() or folder.is_symlink():
            raise ConfigurationError(f"{folder} must be a folder")
        if folder.stat().st_uid != self.uid:
            if os.geteuid() != 0 or any(folder.iterdir()):
                raise ConfigurationError(
                    f"{folder} belongs to another user than {self.name}: Gantry was started "
                    "in this folder by someone else before"
                )
            os.chown(folder, self.uid, self.gid)
        folder.chmod(0o700)


def engine_account() -> Account:
    """The account of the engines: ours, or `nobody` where we are root."""
    if os.geteuid() != 0:
        return Account("you", os.geteuid(), os.getegid())
    try:
        entry = pwd.getpwnam(_UNPRIVILEGED)
    except KeyError:
        return Account(_UNPRIVILEGED, _NOBODY, _NOBODY)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def command_as(
    account: Account, signal_number: int, folder: Path, binary: Path, *arguments: str
) -> Sequence[str]:
    """The command that runs `binary` in `folder` as `account`, and ends with this process."""
    return (
        sys.executable,
        "-I",
        "-m",
        "gantry_cli.embedded.launch",
        str(account.uid),
        str(account.gid),
        str(int(signal_number)),
        str(os.getpid()),
        str(folder),
        str(binary),
        *arguments,
    )


def run_as(account: Account, folder: Path, binary: Path, *arguments: str, timeout: float) -> None:
    """Run a short command to its end.

    :raises ConfigurationError: it failed; the last line that it said.
    """
    command = command_as(account, 15, folder, binary, *arguments)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired:
        raise ConfigurationError(f"{binary.name} took longer than {timeout:.0f} s") from None
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        said = next((line for line in reversed(lines) if "error" in line.lower()), "")
        raise ConfigurationError(f"{binary.name} failed: {said or (lines or ['silently'])[-1]}")
