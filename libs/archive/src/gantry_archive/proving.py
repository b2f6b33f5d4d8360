"""Asks a destination whether it keeps what was delivered to it, and hears what it reports."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from uuid import uuid4

from sqlalchemy.engine import Connection, Engine

from gantry_archive.destinations import Destination
from gantry_archive.place_destinations import PlaceDestination
from gantry_archive.transforms import Transforms
from gantry_archive.web_destinations import AnyDestination, WebDestination
from gantry_dimse.commitment_scu import COMMITMENT_CONTEXTS, CommitmentAssociation, EventReport
from gantry_dimse.find_and_move import IDENTIFIER_SYNTAX, QueryAssociation
from gantry_dimse.requesting import Timeouts
from gantry_domain.commitment import (
    ALL_COMMITTED,
    SOME_FAILED,
    BadCommitment,
    CommitmentReport,
    CommitmentRequest,
    Reference,
    encode_request,
    read_report,
)
from gantry_domain.data_set_json import UnreadableDataSet, read_data_set
from gantry_domain.errors import PermanentError, TransientError
from gantry_domain.found_instances import found_instance, instances_of_series
from gantry_domain.information_models import STUDY_ROOT_FIND
from gantry_domain.statuses import (
    INVALID_ARGUMENT_VALUE,
    NO_SUCH_EVENT_TYPE,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    SUCCESS,
    Status,
)
from gantry_runtime.logs import get_logger
from gantry_stores.index import proofs
from gantry_stores.index.database import transaction
from gantry_stores.index.proofs import Proof, Unproved

log = get_logger(__name__)

# Instances of one request: its data set stays far below what peers take.
_AT_ONCE = 1000


class CommitmentRefused(PermanentError):
    """A destination answered a request for commitment with another status than Success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the destination answered a request for commitment with {status:04X}")


@dataclass(frozen=True, slots=True)
class ReportHearer:
    """Takes the reports of destinations, whichever association they come over."""

    engine: Engine
    resends: int
    transforms: Mapping[str, Transforms]
    """Of the destinations that know instances under other UIDs, by AE title in small letters."""

    def hear(self, report: EventReport, *, calling_ae: str) -> Status:
        """Write down what a destination reports; what it is answered."""
        if report.event_type not in (ALL_COMMITTED, SOME_FAILED):
            return NO_SUCH_EVENT_TYPE
        try:
            told = read_report(
                read_data_set(report.encoded, transfer_syntax=report.transfer_syntax)
            )
            return SUCCESS if self._write(told, calling_ae) else INVALID_ARGUMENT_VALUE
        except (BadCommitment, UnreadableDataSet):
            return INVALID_ARGUMENT_VALUE
        except TransientError as error:
            log.warning("report_put_off", error=type(error).__name__)
            return RESOURCE_LIMITATION
        # The door of the report: the peer gets an answer, whatever failed.
        except Exception:
            log.exception("report_failed")
            return PROCESSING_FAILURE

    def _write(self, told: CommitmentReport, calling_ae: str) -> bool:
        with transaction(self.engine) as connection:
            pk = proofs.delivery_asked(connection, told.TransactionUID, calling_ae)
            if pk is None:
                return False
            ours = self._ours(connection, pk, calling_ae)
            state = proofs.hear(
                connection,
                pk,
                kept=[ours(each.SOPInstanceUID) for each in told.committed],
                not_kept={
                    ours(each.SOPInstanceUID): f"not committed ({reason:04X})"
                    for each, reason in told.failed
                },
                resends=self.resends,
            )
        log.info("report_heard", delivery=pk, state=state, failed=len(told.failed))
        return True

    def _ours(self, connection: Connection, pk: int, calling_ae: str) -> Callable[[str], str]:
        """Gives the UID that we have for one that the destination has."""
        transforms = self.transforms.get(calling_ae.casefold())
        if transforms is None:
            return lambda uid: uid
        ours = {transforms.uid(uid): uid for uid in proofs.sent_instances(connection, pk)}
        return lambda uid: ours.get(uid, uid)


def ask_for_commitment(
    proof: Proof,
    found: Sequence[Unproved],
    *,
    destination: Destination,
    timeouts: Timeouts,
    hearer: ReportHearer,
    wait: float,
) -> None:
    """Request the commitment of these instances; reports may be heard before this returns.

    Raises what opening an association raises, an `AssociationLost`, `CommitmentRefused`, or the
    transient errors of the index.
    """
    for part in _parts(found, destination.transforms):
        request = CommitmentRequest(f"2.25.{uuid4().int}", tuple(part))
        with transaction(hearer.engine) as connection:
            proofs.note_request(connection, proof.delivery_pk, request.TransactionUID)
        with CommitmentAssociation.open(
            host=destination.host,
            port=destination.port,
            calling_ae=destination.calling_ae,
            called_ae=destination.ae_title,
            contexts=COMMITMENT_CONTEXTS,
            timeouts=timeouts,
            tls=destination.tls,
        ) as assoc:
            status, _heard = assoc.request(
                encode_request(request, transfer_syntax=assoc.transfer_syntax),
                lambda report: hearer.hear(report, calling_ae=destination.ae_title),
                wait=wait,
            )
        if status != SUCCESS.code:
            raise CommitmentRefused(status)


def _parts(found: Iterable[Unproved], transforms: Transforms) -> Iterable[list[Reference]]:
    references = (
        Reference(each.SOPClassUID, transforms.uid(each.SOPInstanceUID)) for each in found
    )
    while part := list(islice(references, _AT_ONCE)):
        yield part


def find_instances(
    proof: Proof, found: Sequence[Unproved], *, destination: AnyDestination, timeouts: Timeouts
) -> set[str]:
    """Which of these the destination finds, asked series by series; in a folder or bucket, which
    are listed there.

    Raises what opening an association raises, an `AssociationLost`, `FindRefused`, or
    `SearchFailed`.
    """
    there_as = destination.transforms.uid
    ours = {there_as(each.SOPInstanceUID): each.SOPInstanceUID for each in found}
    study = there_as(proof.StudyInstanceUID)
    series = sorted({there_as(each.SeriesInstanceUID) for each in found})
    if isinstance(destination, PlaceDestination):
        pairs = [(there_as(one.SeriesInstanceUID), there_as(one.SOPInstanceUID)) for one in found]
        return {ours[uid] for uid in destination.listed(study, pairs)}
    if isinstance(destination, WebDestination):
        there = destination.find_instances(study, series, timeouts=timeouts)
    else:
        there = set(_found_over_dimse(study, series, destination, timeouts))
    return {ours[uid] for uid in there & ours.keys()}


def _found_over_dimse(
    study: str, series: Sequence[str], destination: Destination, timeouts: Timeouts
) -> Iterator[str]:
    with QueryAssociation.open_for(
        [STUDY_ROOT_FIND],
        host=destination.host,
        port=destination.port,
        calling_ae=destination.calling_ae,
        called_ae=destination.ae_title,
        timeouts=timeouts,
        tls=destination.tls,
    ) as assoc:
        for uid in series:
            identifier = instances_of_series(study, uid, transfer_syntax=IDENTIFIER_SYNTAX)
            for answer in assoc.find(STUDY_ROOT_FIND, identifier):
                found = found_instance(answer, transfer_syntax=IDENTIFIER_SYNTAX)
                if found is not None:
                    yield found
