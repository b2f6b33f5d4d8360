"""`gantry test`: the checks and the tests, as the continuous integration runs them."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gantry_domain.errors import ConfigurationError

# Tests wait for processes, sockets and disks a third of their time: three files at a time keep two
# cores busy. A file's tests stay together, for they share servers; files begin in the order of
# `testpaths`. What takes long is shown, for all of them have to end within 10 minutes.
_THREE_AT_A_TIME = (
    *("-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"),
    *("--durations", "30", "--durations-min", "5"),
)

_CHECKS = (
    ("ruff", "check", "--quiet"),
    ("ruff", "format", "--check", "--quiet"),
    ("mypy", "--no-error-summary"),
    ("lint-imports", "--no-cache"),
)


def run_tests(arguments: Sequence[str], *, slow: bool, long: bool) -> int:
    """Run the linters, the type checker, the import contracts and pytest; 0 if all pass.

    All parts run even where one fails, pytest last, so that its summary ends the output.

    :raises ConfigurationError: this is not a clone of the repository with its development tools.
    """
    root = _repository()
    binaries = Path(sys.executable).parent
    if not (binaries / "pytest").exists():
        raise ConfigurationError("the test tools are not installed: run ./gantry test")
    environ = {
        key: value
        for key, value in os.environ.items()
        # The tests make settings of their own; and start hundreds of processes, so that what they
        # run is compiled once.
        if not key.lstrip("_").startswith("GANTRY_") and key != "PYTHONDONTWRITEBYTECODE"
    }
    # PATH stays: in the environment's own folder are pynetdicom's programs with dcmtk's names.
    left_out = [mark for mark, wanted in (("long", long), ("slow", slow or long)) if not wanted]
    selection = ("-m", " and ".join(f"not {mark}" for mark in left_out)) if left_out else ()
    run = _Steps(binaries, root, environ)
    if not arguments:
        # Tests are compiled when they are collected: once, while the checks leave a core idle, and
        # not by each of those that run at a time.
        with run.begin("pytest", "--collect-only", "-qq", stdout=subprocess.DEVNULL):
            for check in _CHECKS:
                run.one(*check)
    run.one("pytest", *selection, *(arguments or _THREE_AT_A_TIME))
    if run.failed:
        sys.stderr.write(f"gantry: failed: {', '.join(run.failed)}\n")
    return 1 if run.failed else 0


class _Steps:
    """Runs programs of the environment in the repository, and remembers which of them failed."""

    def __init__(self, binaries: Path, root: Path, environ: Mapping[str, str]) -> None:
        self._binaries = binaries
        self._root = root
        self._environ = environ
        self.failed: list[str] = []

    def begin(
        self, name: str, *arguments: str, stdout: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts one; whoever asked waits for it."""
        command = [str(self._binaries / name), *arguments]
        return subprocess.Popen(command, cwd=self._root, env=self._environ, stdout=stdout)

    def one(self, *step: str) -> None:
        """Runs one that is told of."""
        sys.stderr.write(f"gantry: {' '.join(step)}\n")
        sys.stderr.flush()
        with self.begin(*step) as process:
            if process.wait():
                self.failed.append(step[0])


def _repository() -> Path:
    for folder in Path(__file__).resolve().parents:
        if (folder / "uv.lock").is_file() and (folder / "tests").is_dir():
            return folder
    raise ConfigurationError("the tests are not installed: run ./gantry test in a clone")
