"""`gantry up --demo`: sends studies that ship with pydicom and shows each one's way."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import pydicom
import sqlalchemy as sa

from gantry_dimse.peer_errors import AssociationLost
from gantry_dimse.proposals import ProposedContext
from gantry_dimse.requesting import Timeouts
from gantry_dimse.send import StorageAssociation
from gantry_domain.errors import GantryError, TransientError
from gantry_domain.file_meta import parse_file_meta
from gantry_domain.keys import object_key
from gantry_domain.statuses import SUCCESS
from gantry_runtime.listen_section import reachable
from gantry_runtime.logs import get_logger
from gantry_runtime.settings import Settings
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.index.schema import object_

log = get_logger(__name__)

Found = TypeVar("Found")

_TEST_FILES = Path(pydicom.__file__).parent / "data"
_TIMEOUT = 30.0
_TIMEOUTS = Timeouts(connect=_TIMEOUT, acse=_TIMEOUT, dimse=_TIMEOUT, network=_TIMEOUT)
_PATIENCE = 60.0
_LOOK_AGAIN = 0.1


@dataclass(frozen=True, slots=True)
class DemoStudy:
    """A study among pydicom's test files."""

    title: str
    files: tuple[str, ...]


STUDIES = (
    DemoStudy("CT slice", ("test_files/CT_small.dcm",)),
    DemoStudy(
        "CT series",
        tuple(
            f"test_files/dicomdirtests/77654033/CT2/{name}"
            for name in ("17106", "17136", "17166", "17196")
        ),
    ),
    DemoStudy("MR slice", ("test_files/MR_small.dcm",)),
    DemoStudy("ultrasound in colour", ("test_files/examples_palette.dcm",)),
    DemoStudy("structured report", ("test_files/reportsi.dcm",)),
    DemoStudy("Chinese name in GB18030", ("charset_files/chrX2.dcm",)),
)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the index says of one stored object."""

    id: UUID
    size: int
    state: str


class DemoFailed(TransientError):
    """A step on the way did not happen in time."""


class Demonstration:
    """Runs beside `up` in a thread of its own; what goes wrong is said and ends it, not `up`."""

    def __init__(self, settings: Settings, *, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._host = reachable(settings.listen.address)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """End soon, wherever it is."""
        self._stopping.set()
        self._thread.join(timeout=_TIMEOUT)

    def _run(self) -> None:
        engine = make_engine(self._settings.database_url, pool_size=1)
        try:
            for study in STUDIES:
                if self._stopping.is_set():
                    return
                self._show(study, engine)
            base = self._base
            self._say(
                f"demo: all {len(STUDIES)} studies are at {base}/studies; Ctrl-C stops Gantry"
            )
        except GantryError as error:
            if not self._stopping.is_set():
                self._say(f"demo: {error}")
        except Exception:  # the door of this thread: `up` goes on without the demonstration
            log.exception("demo_failed")
            self._say("demo: failed, which is an error of Gantry; it goes on without")
        finally:
            engine.dispose()

    @property
    def _base(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._settings.ports.http}/dicomweb"

    def _show(self, study: DemoStudy, engine: sa.Engine) -> None:
        files = [_TEST_FILES / name for name in study.files]
        datasets = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
        count = f"{len(datasets)} instance{'s' if len(datasets) > 1 else ''}"
        self._say(f"demo: {study.title} ({datasets[0].get('Modality', '?')}, {count})")
        began = time.monotonic()
        statuses = self._send(files)
        took = time.monotonic() - began
        told = ", ".join(f"{status:04X}" for status in sorted(set(statuses)))
        if any(status != SUCCESS.code for status in statuses):
            raise DemoFailed(f"{study.title} was answered with {told}")
        self._say(f"      received    status {told} Success, {took * 1000:.0f} ms")
        row = self._indexed(str(datasets[-1].SOPInstanceUID), engine)
        self._say(f"      stored      {object_key(row.id)} ({row.size} bytes)")
        self._say(f"      indexed     {row.state} after {time.monotonic() - began:.1f} s")
        found = self._searchable(str(datasets[0].StudyInstanceUID), len(datasets))
        self._say(f"      searchable  after {time.monotonic() - began:.1f} s, {found} in the study")
        self._say(f"      read it at  {self._base}/studies/{datasets[0].StudyInstanceUID}")

    def _send(self, files: Sequence[Path]) -> list[int]:
        contents = [file.read_bytes() for file in files]
        parsed = [parse_file_meta(content) for content in contents]
        pairs = dict.fromkeys(
            (each.meta.MediaStorageSOPClassUID, each.meta.TransferSyntaxUID) for each in parsed
        )
        try:
            assoc = StorageAssociation.open(
                host=self._host,
                port=self._settings.ports.dimse,
                calling_ae="DEMO",
                called_ae=self._settings.ae_titles[0],
                contexts=[ProposedContext(uid, (syntax,)) for uid, syntax in pairs],
                timeouts=_TIMEOUTS,
            )
        except GantryError as error:
            raise DemoFailed("the ingress did not accept the association") from error
        statuses = []
        try:
            with assoc:
                for content, each in zip(contents, parsed, strict=True):
                    meta = each.meta
                    context = assoc.accepts(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
                    if context is None:
                        raise DemoFailed("the ingress did not accept what was proposed to it")
                    response = assoc.store(
                        SOPClassUID=meta.MediaStorageSOPClassUID,
                        SOPInstanceUID=meta.MediaStorageSOPInstanceUID,
                        context=context,
                        chunks=[memoryview(content)[each.dataset_offset :]],
                    )
                    statuses.append(response.status)
        except AssociationLost as error:
            raise DemoFailed("the ingress did not answer in time") from error
        return statuses

    def _indexed(self, SOPInstanceUID: str, engine: sa.Engine) -> Stored:
        newest = (
            sa.select(object_.c.id, object_.c.size, object_.c.state)
            .where(object_.c.sop_instance_uid == SOPInstanceUID)
            .order_by(object_.c.id.desc())
            .limit(1)
        )

        def look() -> Stored | None:
            with transaction(engine) as connection:
                row = connection.execute(newest).one_or_none()
            return None if row is None else Stored(row.id, row.size, row.state)

        return self._until(look, "the worker did not index the study in time")

    def _searchable(self, StudyInstanceUID: str, expected: int) -> int:
        path = (
            f"/dicomweb/instances?StudyInstanceUID={StudyInstanceUID}&includefield=SOPInstanceUID"
        )

        def look() -> int | None:
            connection = http.client.HTTPConnection(
                self._host, self._settings.ports.http, timeout=_TIMEOUT
            )
            try:
                connection.request("GET", path, headers={"Accept": "application/dicom+json"})
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException):
                return None
            finally:
                connection.close()
            found = len(json.loads(body)) if answer.status == 200 else 0
            return found if found >= expected else None

        return self._until(look, "the study was not found over DICOMweb in time")

    def _until(self, look: Callable[[], Found | None], otherwise: str) -> Found:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            if (found := look()) is not None:
                return found
            if self._stopping.wait(_LOOK_AGAIN):
                raise DemoFailed("stopped")
        raise DemoFailed(otherwise)
