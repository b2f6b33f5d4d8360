"""`gantry deleted`: what people deleted, and how it is taken back before it is purged."""

import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import click
from sqlalchemy.engine import Engine

from gantry_cli.index import running_index
from gantry_cli.tables import ago, print_table, span
from gantry_domain.deletions import DeletionState, Restoration
from gantry_domain.errors import ConfigurationError
from gantry_domain.keys import new_object_id
from gantry_runtime.settings import Settings
from gantry_stores.index.database import transaction
from gantry_stores.index.deletions import (
    DeletionLine,
    list_deletions,
    marked_deletions,
    restorations,
    take_back,
)

_HEADINGS = ("STUDY", "PARTITION", "LEVEL", "INSTANCES", "STATE", "DELETED", "BY", "PURGED IN")
_BY = "an operator at the command line"
_LOOK_EVERY = 0.5
_PATIENCE = 60.0


def show_deleted(settings: Settings, *, limit: int) -> int:
    """Print the newest deletions, those that have ended too."""
    with running_index(settings) as engine, transaction(engine) as connection:
        lines = list_deletions(connection, limit=limit + 1)
    if not lines:
        click.echo("nothing was deleted")
        return 0
    print_table(_HEADINGS, (_row(line, settings.delete.purge_after) for line in lines[:limit]))
    if len(lines) > limit:
        click.echo(f"... and older ones (--limit {limit})")
    return 0


def _row(line: DeletionLine, purge_after: timedelta) -> tuple[str, ...]:
    deletion = line.deletion
    left = ""
    if line.state is DeletionState.MARKED:
        left = span((deletion.deleted_at + purge_after - datetime.now(UTC)).total_seconds())
    return (
        deletion.StudyInstanceUID,
        deletion.partition,
        deletion.level,
        str(line.instances),
        line.state.value,
        ago(deletion.deleted_at),
        deletion.deleted_by,
        left,
    )


def restore_deleted(settings: Settings, StudyInstanceUID: str, *, partition: str | None) -> int:
    """Take back all that was deleted of a study and is not purged, and wait until it is there."""
    with running_index(settings) as engine:
        with transaction(engine) as connection:
            found = marked_deletions(connection, StudyInstanceUID, partition=partition)
            names = sorted({each.partition for each in found})
            if not found:
                raise ConfigurationError(
                    "nothing that was deleted of this study can be taken back (gantry deleted list)"
                )
            if len(names) > 1:
                raise ConfigurationError(
                    f"it was deleted in several partitions: add --partition {' or '.join(names)}"
                )
            taken = {
                each.id
                for each in found
                if take_back(
                    connection,
                    Restoration(id=new_object_id(), deletion_id=each.id, restored_by=_BY),
                )
            }
        if not _await(engine, taken):
            click.echo("it will be restored as soon as the worker gets to it")
            return 0
    click.echo(f"{len(taken)} deletions were taken back")
    return 0


def _await(engine: Engine, taken: set[UUID]) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with transaction(engine) as connection:
            if taken.isdisjoint(each.deletion_id for each in restorations(connection)):
                return True
        time.sleep(_LOOK_EVERY)
    return False
