"""Prepares the data folder: the one run that may use it, its folders, its secrets, its binaries."""

import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from gantry_cli.embedded.account import Account
from gantry_domain.errors import ConfigurationError
from gantry_runtime.embedded import EmbeddedPlaces

_LOCK = "lock"


@contextmanager
def sole_run(data: Path) -> Iterator[bool]:
    """Hold the data folder, which is made if need be, for this process alone.

    Whether the run before did not end by itself is what the context gives.

    :raises ConfigurationError: another run has it, or it cannot be made or written.
    """
    try:
        # Only root has engines of another account, which must pass through.
        data.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        descriptor = os.open(data / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"{data} cannot be used for data ({error.strerror}): name another folder in GANTRY_DATA"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"Gantry runs in {data} already{_whose(descriptor)}: stop it, or name another "
                "folder in GANTRY_DATA (and a GANTRY_PORT_BASE)"
            ) from None
        crashed = os.fstat(descriptor).st_size > 0
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        try:
            yield crashed
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _whose(descriptor: int) -> str:
    process = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    return f" (process {process})" if process else ""


def is_running(data: Path) -> bool:
    """Whether a run holds the data folder now."""
    try:
        descriptor = os.open(data / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def prepare(places: EmbeddedPlaces, account: Account) -> None:
    """Make the folders that the engines and services need, each for its owner alone.

    :raises ConfigurationError: the engines' account cannot get to the data folder.
    """
    if not account.is_us:
        _let_through(places.data, account)
    _own_run_folder(places)
    account.own_folder(places.postgres_sockets)
    account.own_folder(places.redis_socket.parent)
    for name in ("secrets", "logs"):
        (places.data / name).mkdir(mode=0o700, exist_ok=True)
    for file in (places.database_password_file, places.broker_password_file):
        _make_secret(file)


def _let_through(data: Path, account: Account) -> None:
    """Only the data folder's own mode is ever changed, never a parent's."""
    blocked = account.unreachable(data)
    if blocked == data:
        data.chmod(stat.S_IMODE(data.stat().st_mode) | stat.S_IXOTH)
        blocked = account.unreachable(data)
    if blocked is not None:
        raise ConfigurationError(
            f"the embedded engines run as {account.name} and may not pass through {blocked} "
            f"on the way to {data}: chmod o+x {blocked}, or name another folder in GANTRY_DATA"
        )


def _own_run_folder(places: EmbeddedPlaces) -> None:
    run = places.run
    run.mkdir(mode=0o711, exist_ok=True)
    # It may be in /tmp, where anyone could have made it before us.
    found = run.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise ConfigurationError(f"{run} belongs to someone else: name a shorter GANTRY_DATA")
    run.chmod(0o711)


def _make_secret(file: Path) -> None:
    if file.exists():
        return
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(secrets.token_urlsafe(24) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    fresh.rename(file)


def wheel_folder(package: str) -> Path:
    """Where a package with binaries is installed, without importing it.

    :raises ConfigurationError: it is not installed.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ConfigurationError(f"the package {package} is not installed: start with ./gantry up")
    return Path(spec.origin).parent


def reachable_binaries(
    origin: Path, parts: tuple[str, ...], data: Path, name: str, account: Account
) -> Path:
    """`origin`, or a copy of its `parts` below the data folder where `account` cannot get to it."""
    if account.unreachable(origin / parts[0]) is None:
        return origin
    copy = data / "engines" / name
    if not copy.is_dir():
        fresh = copy.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        for part in parts:
            if (origin / part).is_dir():
                shutil.copytree(origin / part, fresh / part, symlinks=True)
            else:
                (fresh / part).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(origin / part, fresh / part)
        for folder in (copy.parent, fresh, *(p for p in fresh.rglob("*") if p.is_dir())):
            folder.chmod(0o755)
        fresh.rename(copy)
    return copy
