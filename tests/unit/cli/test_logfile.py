"""Log files: every line arrives, their size is bounded, a complaint is found."""

import os
from pathlib import Path

import pytest

from gantry_cli import logfile
from gantry_cli.logfile import LogFile


def _write(log: LogFile, content: bytes) -> None:
    pipe = log.pipe()
    with os.fdopen(pipe, "wb") as stream:
        stream.write(content)


def test_lines_of_several_processes_arrive(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "worker.log", echo=False)
    _write(log, b'{"event": "a"}\ngantry: the port is in use\n')
    _write(log, b"no newline at the end")
    log.close()
    lines = (tmp_path / "worker.log").read_text().splitlines()
    assert sorted(lines) == [
        "gantry: the port is in use",
        "no newline at the end",
        '{"event": "a"}',
    ]
    assert log.complaint() == "the port is in use"
    log.forget()
    assert log.complaint() == ""


def test_the_newest_lines_are_kept_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfile, "_LARGEST", 100_000)
    log = LogFile(tmp_path / "x.log", echo=False)
    _write(log, b"".join(b"line %06d\n" % number for number in range(60_000)))
    log.close()
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert set(sizes) == {"x.log", "x.log.1", "x.log.2"}
    assert max(sizes.values()) < 200_000
    kept = "".join(
        (tmp_path / name).read_text() for name in ("x.log.2", "x.log.1", "x.log")
    ).splitlines()
    assert kept[-1] == "line 059999"
    numbers = [int(line.split()[1]) for line in kept]
    assert numbers == list(range(numbers[0], 60_000))


def test_a_disk_that_is_full_stops_nobody(tmp_path: Path) -> None:
    os.symlink("/dev/full", tmp_path / "full.log")
    log = LogFile(tmp_path / "full.log", echo=False)
    _write(log, b"one\ntwo\n")
    log.close()
    assert log.unwritten == 2
