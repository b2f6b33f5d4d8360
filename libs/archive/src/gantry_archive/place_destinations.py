"""The partners that are a folder or a bucket: what is sent to them becomes files there.

    <folder>/.tmp/                               what is being written; by it the folder is known
    <folder>/<study>/<series>/<instance>.dcm     what is delivered

A folder without its `.tmp` is not the one that was sent to before: most likely nothing is mounted.
Nothing is written to it then.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import time
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from gantry_archive.destinations import is_time
from gantry_archive.transforms import AS_THEY_ARE, Transforms, transforms_of
from gantry_dimse.pacing import Pacer
from gantry_dimse.peer_errors import Unreachable
from gantry_dimse.requesting import Timeouts
from gantry_domain.day_times import DaySpan
from gantry_domain.errors import ConfigurationError, GantryError, TransientError
from gantry_domain.file_names import instance_file_name, series_folder_name
from gantry_domain.object_place import Bucket, ObjectPlace
from gantry_runtime.partners import Partner
from gantry_runtime.settings import Settings
from gantry_stores.objects import (
    ObjectNotFound,
    ObjectStore,
    is_prepared,
    open_replacing,
    prepare_replacing,
)

_PROBE = "probe"
# A full disk often has room for a few bytes.
_PROBE_BYTES = 1 << 20


class PlaceAway(Unreachable):
    """The folder or bucket cannot be used now; nobody's instance is to blame."""

    def __init__(self, why: str) -> None:
        GantryError.__init__(self, f"the destination cannot be used: {why}")
        self.why = why


@contextmanager
def at_place() -> Iterator[None]:
    """What fails in here is the destination's failure. Raises `PlaceAway`."""
    try:
        yield
    except PlaceAway:
        raise
    except (TransientError, ConfigurationError) as error:
        raise PlaceAway(str(error)) from error


class Place:
    """A folder or bucket that is sent to, opened when first needed. Safe for many threads."""

    def __init__(self, where: ObjectPlace) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._store: ObjectStore | None = None

    def __str__(self) -> str:
        return str(self._where)

    @property
    def prepared(self) -> bool:
        """Whether it is one that was prepared; a bucket always is."""
        return isinstance(self._where, Bucket) or is_prepared(self._where)

    def prepare(self) -> None:
        """Make a folder that is there one that is sent to: once. Raises `PlaceAway`."""
        if isinstance(self._where, Path):
            with at_place():
                prepare_replacing(self._where)

    def store(self) -> ObjectStore:
        """What is there. Raises `PlaceAway`."""
        if not self.prepared:
            raise PlaceAway(
                "its folder is not there, or is not the one that was sent to before (it has no "
                ".tmp): is it mounted?"
            )
        with at_place(), self._lock:
            if self._store is None:
                self._store = open_replacing(self._where)
            return self._store

    def try_out(self) -> None:
        """Return if it can be written to, or (a bucket) if it answers. Raises `PlaceAway`."""
        with at_place():
            store = self.store()
            if isinstance(self._where, Bucket):
                try:
                    store.stat(_PROBE)
                except ObjectNotFound:
                    return
            writer = store.create(_PROBE)
            try:
                writer.write([bytes(_PROBE_BYTES)])
            finally:
                writer.abort()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceDestination:
    """A partner that is a folder or a bucket. The other fields are as those of `Destination`."""

    ae_title: str
    place: Place
    prove: str | None = None
    pacer: Pacer | None = None
    send_between: tuple[DaySpan, ...] = ()
    transforms: Transforms = AS_THEY_ARE

    def takes_routed(self, now: time) -> bool:
        """See `Destination`."""
        return is_time(self.send_between, now)

    def probe(self, _timeouts: Timeouts) -> None:
        """Return if it can be sent to. Raises `PlaceAway`."""
        self.place.try_out()

    def listed(self, StudyInstanceUID: str, wanted: Iterable[tuple[str, str]]) -> set[str]:
        """Which instances of a study are there, asked for and told by their UIDs there: pairs of
        series and instance. Raises `PlaceAway`."""
        found: set[str] = set()
        with at_place():
            store = self.place.store()
            for series, each in groupby(sorted(wanted), key=itemgetter(0)):
                folder = series_folder_name(StudyInstanceUID, series)
                names = {instance_file_name(StudyInstanceUID, series, uid): uid for _, uid in each}
                there = (file.key for file in store.list(f"{folder}/") if file.size)
                found |= {names[key] for key in there if key in names}
        return found


def place_destinations(settings: Settings) -> dict[str, PlaceDestination]:
    """The partners that are a folder or a bucket, by AE title."""
    return {
        partner.ae_title: PlaceDestination(
            ae_title=partner.ae_title,
            place=Place(where),
            prove=partner.prove,
            pacer=None if partner.rate is None else Pacer(partner.rate),
            send_between=partner.day_spans,
            transforms=transforms_of(settings, partner),
        )
        for partner in settings.partners
        if (where := _where(partner, settings.folder)) is not None
    }


def _where(partner: Partner, base: Path) -> ObjectPlace | None:
    if partner.folder is not None:
        return (base / Path(partner.folder).expanduser()).absolute()
    if partner.bucket is not None:
        bucket = partner.bucket
        return bucket.bucket(bucket.url, profile=bucket.profile, base=base)
    return None
