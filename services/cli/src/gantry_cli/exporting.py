"""`gantry export`: studies as files in a folder or a ZIP file, with a DICOMDIR for media."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from sqlalchemy.engine import Engine

from gantry_archive.delivery import may_leave
from gantry_archive.export_targets import open_target
from gantry_archive.exporting import Export
from gantry_cli.index import running_index
from gantry_cli.progress import Progress
from gantry_cli.tables import print_table
from gantry_domain.deliveries import DeliveryLevel
from gantry_domain.entries import DEFAULT_PARTITION
from gantry_domain.errors import ConfigurationError
from gantry_domain.sight import Sight
from gantry_runtime.names import did_you_mean
from gantry_runtime.settings import Settings
from gantry_stores.index.database import transaction
from gantry_stores.index.delivery_plans import find_pushable
from gantry_stores.index.search import Subject, instances_of
from gantry_stores.objects import open_store

_REFUSALS_SHOWN = 50


def export(
    settings: Settings,
    uids: Sequence[str],
    *,
    to: Path,
    profile: str | None,
    partition: str | None,
) -> int:
    """Write studies, series or instances to a target; 1 where some could not be.

    :raises GantryError: there is nothing of that UID, it may not leave, or nothing can be written.
    """
    with running_index(settings) as engine:
        subjects = list(_subjects(settings, engine, uids, partition))
        number = sum(
            1 for subject, sight in subjects for _ in instances_of(engine, subject, sight=sight)
        )
        target = open_target(to, fresh=profile is not None)
        progress = Progress()
        written = size = 0
        refused: list[tuple[str, str]] = []
        store = open_store(settings.objects_place)
        try:
            exported = Export(engine=engine, store=store, target=target, profile=profile)
            for each in exported.run(subjects):
                if each.refused is None:
                    written += 1
                    size += each.size
                else:
                    refused.append((each.SOPInstanceUID, each.refused))
                progress.show(f"{written + len(refused)} of {number} instances, {_mib(size)}")
            target.close()
        finally:
            target.abort()
            progress.end()
    if refused:
        print_table(("REFUSED", "WHY"), refused[:_REFUSALS_SHOWN])
        if len(refused) > _REFUSALS_SHOWN:
            click.echo(f"... and {len(refused) - _REFUSALS_SHOWN} more")
    told = f"{written} of {number} instances written to {to}, {_mib(size)}"
    click.echo(told if profile is None else f"{told}, with a DICOMDIR ({profile})")
    return 1 if refused else 0


def _subjects(
    settings: Settings, engine: Engine, uids: Sequence[str], partition: str | None
) -> Iterator[tuple[Subject, Sight]]:
    partitions = {each.partition for each in settings.partners} | {DEFAULT_PARTITION}
    if partition is not None and partition not in partitions:
        raise ConfigurationError(
            f"there is no partition {partition}{did_you_mean(partition, sorted(partitions))}"
        )
    asked = sorted(partitions) if partition is None else [partition]
    for uid in dict.fromkeys(uids):
        with transaction(engine) as connection:
            named = find_pushable(connection, uid, partitions=asked)
        # Where a study has the UID of one of its series, as some have, all of it is meant.
        studies = [each for each in named if each.level is DeliveryLevel.STUDY]
        found = may_leave(studies or named, uid)
        # An accepted study is visible, so what is seen is all of it.
        yield (
            Subject(found.StudyInstanceUID, found.SeriesInstanceUID, found.SOPInstanceUID),
            Sight(found.partition),
        )


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
