"""What another archive has and we lack: found by C-FIND, and moved by C-MOVE to our front door.

The studies come in as from every device: received, stored, indexed and judged.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta

from gantry_dimse.find_and_move import IDENTIFIER_SYNTAX, Moved, QueryAssociation
from gantry_dimse.outgoing_tls import OutgoingTLS
from gantry_dimse.peer_errors import AssociationLost, PeerBrokeProtocol
from gantry_dimse.requesting import Timeouts
from gantry_domain.dictionary import KEYWORDS, VRS
from gantry_domain.errors import PermanentError
from gantry_domain.find_identifier import read_find_identifier
from gantry_domain.identifier_encoding import encode_text_element
from gantry_domain.information_models import STUDY_ROOT_FIND, STUDY_ROOT_MOVE
from gantry_domain.json_model import valid_uid
from gantry_domain.query import BadQuery
from gantry_domain.statuses import MOVE_DESTINATION_UNKNOWN, SUCCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An archive that is asked, and the AE title under which it knows our front door."""

    ae_title: str
    host: str
    port: int
    calling_ae: str
    destination: str
    tls: OutgoingTLS | None = None
    timeouts: Timeouts
    quiet: float
    """Seconds that it may say nothing while it sends a study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which studies: by Study Date, both ends included, and by a modality among theirs."""

    since: date | None = None
    until: date | None = None
    modality: str = ""

    def ranges(self, today: date) -> Iterator[str]:
        """Values of Study Date that together match each study once.

        A day at a time where there is a first one, for archives cut long answers short.
        """
        if self.since is None:
            yield f"-{self.until:%Y%m%d}" if self.until else ""
            return
        # Clocks go wrong: what is dated later than today comes with the last range.
        day, last = self.since, self.until or max(today, self.since)
        while day <= last:
            open_end = self.until is None and day == last
            yield f"{day:%Y%m%d}-" if open_end else f"{day:%Y%m%d}"
            day += timedelta(days=1)


@dataclass(frozen=True, slots=True)
class RemoteStudy:
    """A study of another archive; `instances` is None where it does not say how many."""

    StudyInstanceUID: str
    StudyDate: str
    modalities: str
    instances: int | None

    def held(self, counts: Mapping[str, int]) -> bool:
        """Whether as many instances are here, by number of instances of our own studies."""
        here = counts.get(self.StudyInstanceUID, 0)
        return self.instances is not None and here >= max(1, self.instances)


class NotKnownThere(PermanentError):
    """The archive cannot send where we ask it to (A801)."""

    def __init__(self, source: Source) -> None:
        super().__init__(
            f"{source.ae_title} does not know the AE title {source.destination}, or cannot reach "
            "it: enter it there with the address of our front door, or name another with --to"
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one study: `why` is empty where all of it came."""

    study: RemoteStudy
    instances: int
    why: str = ""


def remote_studies(source: Source, wanted: Wanted, *, today: date) -> Iterator[RemoteStudy]:
    """Its studies, each once, oldest day first.

    Raises what opening an association raises, `FindRefused` and `AssociationLost`.
    """
    seen: set[str] = set()
    with _associate(source, STUDY_ROOT_FIND) as assoc:
        for dates in wanted.ranges(today):
            keys = {
                "StudyDate": dates,
                "QueryRetrieveLevel": "STUDY",
                "ModalitiesInStudy": wanted.modality,
                "StudyInstanceUID": "",
                "NumberOfStudyRelatedInstances": "",
            }
            for answer in assoc.find(STUDY_ROOT_FIND, _identifier(keys)):
                study = _study(answer)
                modalities = study.modalities.split("\\")
                # To match by it is optional for them (PS3.4 Table C.6-5), and so is to return it.
                if wanted.modality and study.modalities and wanted.modality not in modalities:
                    continue
                if study.StudyInstanceUID not in seen:
                    seen.add(study.StudyInstanceUID)
                    yield study


def counted(source: Source, studies: Iterable[RemoteStudy]) -> Iterator[RemoteStudy]:
    """The same studies with their numbers of instances, of an archive that does not say them.

    A C-FIND for each series of each study. Raises as `remote_studies`.
    """
    with _associate(source, STUDY_ROOT_FIND) as assoc:
        for study in studies:
            above = {"StudyInstanceUID": study.StudyInstanceUID}
            keys = {**above, "QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": ""}
            series = [
                _texts(answer).get(KEYWORDS["SeriesInstanceUID"], "")
                for answer in assoc.find(STUDY_ROOT_FIND, _identifier(keys))
            ]
            number = 0
            for uid in series:
                keys = {
                    **above,
                    "QueryRetrieveLevel": "IMAGE",
                    "SeriesInstanceUID": uid,
                    "SOPInstanceUID": "",
                }
                number += sum(1 for _ in assoc.find(STUDY_ROOT_FIND, _identifier(keys)))
            yield replace(study, instances=number)


class Puller:
    """Fetches studies one after another over one association. `interrupt` is for any thread."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._assoc: QueryAssociation | None = None
        self._interrupted = False

    def open(self) -> QueryAssociation:
        """The association, which `fetch` opens by itself where there is none."""
        assoc = _associate(self._source, STUDY_ROOT_MOVE)
        with self._lock:
            self._assoc = assoc
            if self._interrupted:
                assoc.interrupt()
        return assoc

    def fetch(self, study: RemoteStudy) -> Outcome:
        """Have a study sent to us.

        What goes wrong with it alone is in the outcome. Raises `NotKnownThere`, and what opening
        an association raises.
        """
        keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study.StudyInstanceUID}
        assoc = self._assoc or self.open()
        try:
            moved = assoc.move(
                STUDY_ROOT_MOVE,
                _identifier(keys),
                destination=self._source.destination,
                quiet=self._source.quiet,
            )
        except AssociationLost as error:
            with self._lock:
                self._assoc = None
            return Outcome(study, 0, str(error))
        if moved.status == MOVE_DESTINATION_UNKNOWN.code:
            raise NotKnownThere(self._source)
        return _outcome(study, moved)

    def close(self) -> None:
        """Release the association."""
        with self._lock:
            assoc, self._assoc = self._assoc, None
        if assoc is not None:
            assoc.release()

    def interrupt(self) -> None:
        """From any thread: what is being fetched fails, and nothing more is."""
        with self._lock:
            self._interrupted = True
            if self._assoc is not None:
                self._assoc.interrupt()


def _associate(source: Source, SOPClassUID: str) -> QueryAssociation:
    return QueryAssociation.open_for(
        [SOPClassUID],
        host=source.host,
        port=source.port,
        calling_ae=source.calling_ae,
        called_ae=source.ae_title,
        timeouts=source.timeouts,
        tls=source.tls,
    )


def _identifier(keys: Mapping[str, str]) -> bytes:
    tags = sorted((KEYWORDS[keyword], value) for keyword, value in keys.items())
    return b"".join(
        encode_text_element(tag, VRS[tag], value, transfer_syntax=IDENTIFIER_SYNTAX)
        for tag, value in tags
    )


def _texts(answer: bytes) -> dict[int, str]:
    """The values of a match by tag."""
    try:
        found = read_find_identifier(answer, transfer_syntax=IDENTIFIER_SYNTAX)
    except BadQuery as error:
        raise PeerBrokeProtocol("a match that cannot be read") from error
    return {key.tag: key.text.strip(" \0") for key in found.keys}


def _study(answer: bytes) -> RemoteStudy:
    text = _texts(answer)
    uid = text.get(KEYWORDS["StudyInstanceUID"], "")
    if not valid_uid(uid):
        raise PeerBrokeProtocol("a match without a Study Instance UID")
    number = text.get(KEYWORDS["NumberOfStudyRelatedInstances"], "")
    return RemoteStudy(
        StudyInstanceUID=uid,
        StudyDate=text.get(KEYWORDS["StudyDate"], ""),
        modalities=text.get(KEYWORDS["ModalitiesInStudy"], ""),
        instances=int(number) if number.isdecimal() else None,
    )


def _outcome(study: RemoteStudy, moved: Moved) -> Outcome:
    came = (moved.completed or 0) + (moved.warning or 0)
    if moved.failed:
        return Outcome(study, came, f"{moved.failed} of {came + moved.failed} instances failed")
    if moved.status != SUCCESS.code and not (moved.warning and moved.failed == 0):
        return Outcome(study, came, f"status {moved.status:04X}")
    if moved.completed is not None and not came:
        return Outcome(study, 0, "it has nothing of it to send")
    return Outcome(study, came)
