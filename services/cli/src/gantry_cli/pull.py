"""`gantry pull`: brings over what another archive has and we lack, as for a migration.

It may be ended at any time and started again: what is here by then is not asked for again.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from queue import SimpleQueue

import click
from sqlalchemy.engine import Engine

from gantry_archive.destinations import destination_timeouts
from gantry_archive.pulling import (
    Outcome,
    Puller,
    RemoteStudy,
    Source,
    Wanted,
    counted,
    remote_studies,
)
from gantry_cli.echo import peer
from gantry_cli.index import running_index
from gantry_cli.tables import print_table
from gantry_dimse.peer_errors import AssociationLost, AssociationRejected, NoAcceptedContext
from gantry_domain.entries import DEFAULT_PARTITION
from gantry_domain.errors import ConfigurationError, GantryError, TransientError
from gantry_runtime.names import did_you_mean
from gantry_runtime.settings import Settings
from gantry_stores.index.census import instances_of_studies
from gantry_stores.index.database import transaction

# Archives fetch from tapes, and many say nothing until a study of thousands of images is sent.
_QUIET = 1800.0
_LOOKED_UP_AT_ONCE = 1000
_HEADINGS = ("STUDY", "DATE", "MODALITIES", "INSTANCES")


class NotPulled(TransientError):
    """Some studies did not come, or not as a whole."""


def pull(
    settings: Settings,
    target: str,
    wanted: Wanted,
    *,
    to: str | None,
    at_once: int,
    dry_run: bool,
) -> int:
    """Find the studies of an archive, and have those sent to us that are not here.

    :raises GantryError: it cannot be asked, or (at the end) not all came.
    """
    source = _source(settings, target, to)
    try:
        found = list(remote_studies(source, wanted, today=datetime.now(UTC).date()))
    except (AssociationLost, AssociationRejected, NoAcceptedContext) as error:
        raise NotPulled(f"{source.ae_title} cannot be asked: {error}") from error
    with running_index(settings) as engine:
        missing = _missing(engine, source, found, partition=_partition(settings, source.ae_title))
    told = f"{source.ae_title} has {_studies(len(found))}, {len(missing)} of them not here"
    if dry_run:
        if missing:
            print_table(_HEADINGS, map(_row, missing))
        click.echo(told)
        return 0
    click.echo(told)
    came, failed = 0, 0
    for outcome in fetched(source, missing, at_once=at_once):
        came += outcome.instances
        failed += bool(outcome.why)
        what = f"failed: {outcome.why}" if outcome.why else f"{_instances(outcome.instances)}"
        click.echo(f"{outcome.study.StudyInstanceUID}: {what}")
    click.echo(f"{_studies(len(missing) - failed)} came, {_instances(came)} in all")
    if failed:
        raise NotPulled(f"{_studies(failed)} failed; the same command asks for them again")
    return 0


def fetched(source: Source, studies: Iterable[RemoteStudy], *, at_once: int) -> Iterator[Outcome]:
    """Fetch these, some at a time; the outcomes as they come.

    An association that the archive refuses, as when it allows no more of them, leaves its work to
    the others. Raises the reason of the first where none is left.
    """
    waiting = deque(studies)
    outcomes: SimpleQueue[Outcome | None] = SimpleQueue()
    reasons: list[GantryError] = []

    def work(puller: Puller) -> None:
        study: RemoteStudy | None = None
        try:
            if puller is not pullers[0]:
                puller.open()
            while waiting:
                study = waiting.popleft()
                outcomes.put(puller.fetch(study))
                study = None
        except IndexError:  # another took the last one
            pass
        except GantryError as error:
            if study is not None:
                waiting.append(study)
            reasons.append(error)
        finally:
            puller.close()
            outcomes.put(None)

    pullers = [Puller(source) for _ in range(min(at_once, len(waiting)))]
    threads = [threading.Thread(target=work, args=(puller,), name="pull") for puller in pullers]
    if pullers:
        # Alone: where there may be but one, several at once might all be refused.
        pullers[0].open()
    for thread in threads:
        thread.start()
    try:
        left = len(threads)
        while left:
            outcome = outcomes.get()
            if outcome is None:
                left -= 1
            else:
                yield outcome
    finally:
        # Ctrl-C, among others: what is on its way is given up and asked for again next time.
        rest = len(waiting)
        waiting.clear()
        for puller in pullers:
            puller.interrupt()
        for thread in threads:
            thread.join()
    if rest:
        raise reasons[0]


def _source(settings: Settings, target: str, to: str | None) -> Source:
    called = peer(settings, target)
    destination = to or settings.ae_titles[0]
    if destination not in settings.ae_titles:
        hint = did_you_mean(destination, settings.ae_titles)
        raise ConfigurationError(f"{destination} is none of our ae_titles{hint}")
    return Source(
        ae_title=called.ae_title,
        host=called.host,
        port=called.port,
        calling_ae=called.calling_ae,
        destination=destination,
        tls=called.tls,
        timeouts=destination_timeouts(settings),
        quiet=_QUIET,
    )


def _partition(settings: Settings, ae_title: str) -> str:
    """Where the archive's images go, for it is the archive that sends them."""
    for partner in settings.partners:
        if partner.ae_title == ae_title:
            return partner.partition
    return DEFAULT_PARTITION


def _missing(
    engine: Engine, source: Source, found: Sequence[RemoteStudy], *, partition: str
) -> list[RemoteStudy]:
    counts: dict[str, int] = {}
    for start in range(0, len(found), _LOOKED_UP_AT_ONCE):
        uids = [study.StudyInstanceUID for study in found[start : start + _LOOKED_UP_AT_ONCE]]
        with transaction(engine) as connection:
            counts |= instances_of_studies(connection, uids, partition=partition)
    # Of those that are here, some archives have to be asked how many instances there are.
    unsaid = [s for s in found if s.instances is None and counts.get(s.StudyInstanceUID)]
    asked = counted(source, unsaid) if unsaid else ()
    said = {study.StudyInstanceUID: study for study in asked}
    known = [said.get(study.StudyInstanceUID, study) for study in found]
    return [study for study in known if not study.held(counts)]


def _row(study: RemoteStudy) -> tuple[str, str, str, str]:
    number = "?" if study.instances is None else str(study.instances)
    return study.StudyInstanceUID, study.StudyDate, study.modalities.replace("\\", " "), number


def _studies(number: int) -> str:
    return f"{number} stud{'y' if number == 1 else 'ies'}"


def _instances(number: int) -> str:
    return f"{number} instance{'' if number == 1 else 's'}"
