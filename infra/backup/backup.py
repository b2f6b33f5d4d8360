#!/usr/bin/env python3
"""Backs up what Gantry cannot make again, and brings it back: the database, and the object folder.

    backup.py backup  --database URL [--objects FOLDER] --in BACKUP [--keep 14]
    backup.py restore --database URL [--objects FOLDER] --in BACKUP [--dump NAME]

BACKUP/database/<UTC>.dump are dumps of pg_dump, BACKUP/objects/... is a copy of the objects, which
never change, so that only new ones are copied. The database is dumped first: whatever its rows
name is then in the copy, and what came in between is found by the sweep after a restore.

Needs nothing but Python and PostgreSQL's client programs, of the server's version or newer, on
PATH or in --programs. A password comes from PGPASSWORD. An object store on S3 has its own backup.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

_CHUNK = 4 * 2**20
_PART = ".part"
# What probes leave for a moment, and what is being written.
_NOT_OBJECTS = ("probe",)


class BackupFailed(Exception):
    """Something went wrong; the text is one line for a person."""


class Programs:
    """PostgreSQL's client programs against one database."""

    def __init__(self, folder: Path | None, database: str) -> None:
        self._folder = folder
        self._database = database

    def run(self, name: str, *arguments: str) -> str:
        """The output of one of them. Raises `BackupFailed` with the first line of its complaint."""
        program = str(self._folder / name) if self._folder else name
        try:
            done = subprocess.run(
                [program, f"--dbname={self._database}", *arguments],
                check=False,
                capture_output=True,
                text=True,
            )
        except OSError as error:
            raise BackupFailed(f"{program} cannot be run: {error.strerror}") from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            raise BackupFailed(f"{name}: {lines[0]}")
        return done.stdout

    def ask(self, question: str) -> str:
        """The one value that a query answers."""
        return self.run(
            "psql", "--no-psqlrc", "--tuples-only", "--no-align", f"--command={question}"
        ).strip()


def files(folder: Path) -> Iterator[Path]:
    """The objects below a folder, as relative paths; none of them changes any more."""
    for parent, folders, names in os.walk(folder, onerror=_raise):
        at_top = Path(parent) == folder
        folders[:] = sorted(
            name for name in folders if name[0] != "." and not (at_top and name in _NOT_OBJECTS)
        )
        for name in sorted(names):
            if not name.endswith(_PART):
                yield (Path(parent) / name).relative_to(folder)


def _raise(error: OSError) -> None:
    raise BackupFailed(f"{error.filename}: {error.strerror}")


def copy_missing(source: Path, target: Path) -> tuple[int, int]:
    """Copies what the target lacks, durably, and returns how many were copied and were there.

    A file shows under its name only when it is whole, so that an interrupted copy goes on.
    """
    copied = there = 0
    touched: set[Path] = set()
    for path in files(source):
        into = target / path
        size = (source / path).stat().st_size
        if into.exists():
            if into.stat().st_size != size:
                raise BackupFailed(f"{into} differs from {source / path}; neither was touched")
            there += 1
            continue
        _make(into.parent, target)
        part = into.with_name(into.name + _PART)
        try:
            with (source / path).open("rb") as reading, part.open("wb") as writing:
                os.fchmod(writing.fileno(), 0o640)
                _give_to_owner(part, target)
                while chunk := reading.read(_CHUNK):
                    writing.write(chunk)
                writing.flush()
                os.fsync(writing.fileno())
        except FileNotFoundError:
            part.unlink(missing_ok=True)
            continue  # a copy of the same bytes, purged in the meantime
        part.rename(into)
        touched.update((into.parent, *into.parent.relative_to(target).parents))
        copied += 1
    for folder in touched:
        _sync(target / folder)
    return copied, there


def _make(folder: Path, root: Path) -> None:
    """The folder and those above it up to the root."""
    if folder.is_dir():
        return
    if folder != root:
        _make(folder.parent, root)
        folder.mkdir(mode=0o750, exist_ok=True)
        _give_to_owner(folder, root)
    else:
        folder.mkdir(mode=0o750, parents=True)


def _give_to_owner(path: Path, root: Path) -> None:
    """What root restores belongs to the account that Gantry runs as, whose the folder is."""
    if os.geteuid() == 0:
        owner = root.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def dumps(backup: Path) -> list[Path]:
    """The dumps, the oldest first."""
    return sorted((backup / "database").glob("*.dump"))


def back_up(programs: Programs, objects: Path | None, backup: Path, *, keep: int) -> None:
    """One dump and the new objects; then the oldest dumps beyond `keep` go."""
    folder = backup / "database"
    folder.mkdir(parents=True, exist_ok=True)
    name = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ.dump")
    part = folder / (name + _PART)
    programs.run("pg_dump", "--format=custom", "--no-owner", "--no-acl", f"--file={part}")
    with part.open("rb") as dumped:
        os.fsync(dumped.fileno())
    part.rename(folder / name)
    _sync(folder)
    print(f"backup: database/{name}, {(folder / name).stat().st_size} bytes")
    if objects is not None:
        copied, there = copy_missing(objects, backup / "objects")
        print(f"backup: {copied} new objects, {there} were there")
    for old in dumps(backup)[:-keep]:
        old.unlink()


def restore(programs: Programs, objects: Path | None, backup: Path, *, dump: str | None) -> None:
    """The objects that are missing, then the database, whole or not at all."""
    known = dumps(backup)
    chosen = backup / "database" / dump if dump else (known[-1] if known else None)
    if chosen is None or not chosen.is_file():
        raise BackupFailed(f"there is no dump {dump or ''} in {backup / 'database'}")
    tables = programs.ask("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    if tables != "0":
        raise BackupFailed(f"the database is not empty, it has {tables} tables; nothing was done")
    if objects is not None:
        copied, there = copy_missing(backup / "objects", objects)
        print(f"restore: {copied} objects, {there} were there")
    how = ("--no-owner", "--no-acl", "--single-transaction", "--exit-on-error")
    programs.run("pg_restore", *how, str(chosen))
    print(f"restore: database/{chosen.name}; now `gantry migrate`, then start Gantry")


def main() -> int:
    """0 where all is done, 1 with one line where it is not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["backup", "restore"])
    parser.add_argument("--database", required=True, metavar="URL")
    parser.add_argument("--objects", type=Path, metavar="FOLDER")
    parser.add_argument("--in", type=Path, required=True, dest="backup", metavar="BACKUP")
    parser.add_argument("--keep", type=int, default=14, metavar="DUMPS")
    parser.add_argument("--dump", metavar="NAME", help="restore this one, not the newest")
    parser.add_argument("--programs", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.keep < 1:
        parser.error("--keep is at least 1")
    programs = Programs(arguments.programs, arguments.database)
    try:
        if arguments.what == "backup":
            back_up(programs, arguments.objects, arguments.backup, keep=arguments.keep)
        else:
            restore(programs, arguments.objects, arguments.backup, dump=arguments.dump)
    except BackupFailed as error:
        print(f"{arguments.what}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{arguments.what}: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
