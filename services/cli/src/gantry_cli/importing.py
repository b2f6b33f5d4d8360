"""`gantry import`: takes DICOM files into the archive that runs, and shows what became of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from gantry_archive.import_sources import Found, find_files
from gantry_archive.importing import Fate, Import, Imported
from gantry_archive.receiving import stager_of
from gantry_archive.storable_classes import taken_classes
from gantry_cli.index import running_index
from gantry_cli.progress import Progress
from gantry_cli.tables import print_table
from gantry_domain.entries import DEFAULT_PARTITION
from gantry_domain.errors import ConfigurationError
from gantry_runtime.names import did_you_mean
from gantry_runtime.process import Process
from gantry_runtime.settings import Settings
from gantry_runtime.values import check_ae_title
from gantry_stores.objects import open_store
from gantry_stores.queue.application import make_celery
from gantry_stores.queue.receipts import ReceiptPublisher

_REFUSALS_SHOWN = 100
_FLUSH_SECONDS = 10.0


def import_files(
    settings: Settings,
    paths: Sequence[Path],
    *,
    sender: str,
    partition: str | None,
    at_once: int,
) -> int:
    """Take in all files below these; 1 where some were refused.

    :raises GantryError: nothing can be read there, or the archive takes nothing for now.
    """
    found, total = _count(paths)
    process = Process(name="import", status=None, sockets={})
    publisher = ReceiptPublisher(make_celery(settings.broker_url))
    try:
        with running_index(settings) as engine:
            run = Import(
                stager=stager_of(
                    settings,
                    process,
                    store=open_store(settings.objects_place),
                    publisher=publisher,
                ),
                engine=engine,
                calling_ae=_ae_title(sender),
                receiving_ae=settings.ae_titles[0],
                partition=_partition(settings, sender, partition),
                storage_classes=frozenset(taken_classes(settings)),
                threads=at_once,
                stopping=process.stopping,
            )
            return _show(run.run(_files(paths)), found=found, total=total)
    finally:
        # What the broker does not get is found by the sweep.
        publisher.close(_FLUSH_SECONDS)


def _show(outcomes: Iterator[Imported], *, found: int, total: int) -> int:
    """Show how far it is, and at the end, or where it stops, what became of what."""
    progress = Progress()
    fates: Counter[Fate] = Counter()
    refused: list[tuple[str, str]] = []
    size = 0
    try:
        for each in outcomes:
            fates[each.fate] += 1
            size += each.found.size
            if each.fate is Fate.REFUSED and len(refused) < _REFUSALS_SHOWN:
                refused.append((each.found.name, each.why or ""))
            done = fates.total()
            progress.show(f"{done} of {found} files, {_mib(size)} of {_mib(total)}")
    finally:
        progress.end()
        if refused:
            print_table(("REFUSED", "WHY"), refused)
        if fates[Fate.REFUSED] > len(refused):
            click.echo(f"... and {fates[Fate.REFUSED] - len(refused)} more")
        told = ", ".join(f"{fates[fate]} {fate.value}" for fate in Fate)
        click.echo(f"{fates.total()} of {found} files: {told}")
    return 1 if fates[Fate.REFUSED] else 0


def _files(paths: Sequence[Path]) -> Iterator[Found]:
    for path in paths:
        yield from find_files(path)


def _count(paths: Sequence[Path]) -> tuple[int, int]:
    """How many files there are, and their bytes: so that progress is true."""
    number = size = 0
    for each in _files(paths):
        number += 1
        size += each.size
    return number, size


def _ae_title(sender: str) -> str:
    try:
        return check_ae_title(sender)
    except ValueError as error:
        raise ConfigurationError(f"--as {sender}: {error}") from error


def _partition(settings: Settings, sender: str, wanted: str | None) -> str:
    of_sender = {each.ae_title: each.partition for each in settings.partners}
    if wanted is None:
        return of_sender.get(sender, DEFAULT_PARTITION)
    known = sorted({DEFAULT_PARTITION, *of_sender.values()})
    if wanted not in known:
        raise ConfigurationError(f"there is no partition {wanted}{did_you_mean(wanted, known)}")
    return wanted


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
