"""Storage commitment at the front door: requests are written down, and reports are heard.

The worker looks at what is asked for and tells the requester; who wants to be told over the
association of his request is told from here (PS3.4 J.3.3). Reports answer what we asked for.
"""

from collections.abc import Collection, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from sqlalchemy.engine import Engine

from gantry_archive.asking import awaited
from gantry_archive.proving import ReportHearer
from gantry_archive.transforms import renaming_transforms
from gantry_dimse.command import N_ACTION_RQ, N_EVENT_REPORT_RQ
from gantry_dimse.commitment_scu import EventReport
from gantry_dimse.operations import (
    Answer,
    Answers,
    Operation,
    OperationKey,
    OperationRequest,
)
from gantry_dimse.partners import Partners
from gantry_dimse.reverse_events import Steps
from gantry_domain.commitment import (
    COMMITMENT_INSTANCE,
    REQUEST_COMMITMENT,
    STORAGE_COMMITMENT_PUSH,
    BadCommitment,
    CommitmentRequest,
    encode_report,
    read_request,
    report_of,
)
from gantry_domain.data_set_json import UnreadableDataSet, read_data_set
from gantry_domain.errors import GantryError, PermanentError, TransientError
from gantry_domain.statuses import (
    INVALID_ARGUMENT_VALUE,
    NO_SUCH_ACTION,
    NO_SUCH_OBJECT_INSTANCE,
    NOT_AUTHORIZED,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    SUCCESS,
)
from gantry_ingress import metrics
from gantry_runtime.logs import get_logger
from gantry_runtime.settings import Settings
from gantry_stores.index.commitments import Commitment, hold, take_down, write_reported
from gantry_stores.index.database import transaction

log = get_logger(__name__)

# As long as the association lasts nobody else tells; it is looked at once a second.
_HOLD = timedelta(seconds=20)


def commitment_operations(
    settings: Settings, *, engine: Engine, threads: ThreadPoolExecutor, partners: Partners
) -> dict[OperationKey, Operation]:
    """What the front door answers of storage commitment."""
    service = CommitmentService(
        engine=engine,
        threads=threads,
        partners=partners,
        told_elsewhere=[
            partner.ae_title.casefold()
            for partner in settings.partners
            if partner.address is not None and partner.commitment_report == "new"
        ],
    )
    reports = ReportService(
        ReportHearer(
            engine,
            resends=settings.forward.proof.resends,
            transforms=renaming_transforms(settings),
        ),
        threads=threads,
    )
    return {
        (N_ACTION_RQ, STORAGE_COMMITMENT_PUSH): service.request,
        (N_EVENT_REPORT_RQ, STORAGE_COMMITMENT_PUSH): reports.report,
    }


class CommitmentService:
    """Answers N-ACTION; the operation is `request`."""

    def __init__(
        self,
        *,
        engine: Engine,
        threads: ThreadPoolExecutor,
        partners: Partners,
        told_elsewhere: Collection[str],
    ) -> None:
        """`threads` ask the index. `told_elsewhere`: the partners, casefolded, that are told over a
        new association; the others are over that of their request."""
        self._engine = engine
        self._threads = threads
        self._partners = partners
        self._told_elsewhere = frozenset(told_elsewhere)

    def request(self, request: OperationRequest) -> Answers:
        """Write a request down, and answer Success once it is."""
        for answer in self._answered(request):
            if answer is not None:
                partner = self._partners.label(request.peer.calling_ae)
                metrics.COMMITMENTS.labels(partner, f"{answer.status.code:04X}").inc()
            yield answer

    def _answered(self, request: OperationRequest) -> Generator[Answer | None, None, None]:
        calling_ae = request.peer.calling_ae
        if not self._partners.may(calling_ae, "store"):
            yield Answer(NOT_AUTHORIZED, error_comment="this AE title may not store")
            return
        if request.SOPInstanceUID != COMMITMENT_INSTANCE:
            yield Answer(NO_SUCH_OBJECT_INSTANCE, error_comment="not the well-known instance")
            return
        if request.type_id != REQUEST_COMMITMENT:
            yield Answer(NO_SUCH_ACTION, error_comment="the only action is 1")
            return
        try:
            asked = read_request(
                read_data_set(request.identifier, transfer_syntax=request.transfer_syntax)
            )
            pk = yield from awaited(self._threads.submit(self._take_down, request, asked))
        except (BadCommitment, UnreadableDataSet) as error:
            yield Answer(INVALID_ARGUMENT_VALUE, error_comment=str(error))
        except TransientError as error:
            log.warning("commitment_put_off", error=type(error).__name__)
            comment = "the index does not answer in time: try again later"
            yield Answer(RESOURCE_LIMITATION, error_comment=comment)
        except PermanentError as error:
            log.error("commitment_refused", error=type(error).__name__, reason=str(error))
            yield Answer(PROCESSING_FAILURE, error_comment="the index refuses this request")
        # The door of the operation: the peer gets an answer, whatever failed.
        except Exception:
            log.exception("commitment_failed")
            yield Answer(PROCESSING_FAILURE, error_comment="an error of the archive: see its log")
        else:
            if calling_ae.casefold() not in self._told_elsewhere and request.events is not None:
                request.events.go_on_with(self._tell_here(request, pk))
            yield Answer(SUCCESS)

    def _take_down(self, request: OperationRequest, asked: CommitmentRequest) -> int:
        peer = request.peer
        with transaction(self._engine) as connection:
            pk = take_down(
                connection,
                asked,
                partition=self._partners.partition(peer.calling_ae),
                calling_ae=peer.calling_ae,
                called_ae=peer.called_ae,
            )
            if peer.calling_ae.casefold() not in self._told_elsewhere:
                hold(connection, pk, lease=_HOLD)
            return pk

    def _tell_here(self, request: OperationRequest, pk: int) -> Steps:
        """Wait for what the worker finds, and tell it. If this ends before, the worker tells."""
        try:
            while True:
                found = yield from awaited(self._threads.submit(self._hold, pk))
                if found is not None:
                    break
                yield
            yield from self._tell(request, found)
        except GantryError as error:
            log.warning("commitment_not_told", error=type(error).__name__)
        # The door of the steps: the association is for images too, and goes on.
        except Exception:
            log.exception("commitment_not_told")

    def _tell(self, request: OperationRequest, found: Commitment) -> Steps:
        assert request.events is not None
        report = report_of(found.TransactionUID, found.references, found.failed)
        encoded = encode_report(
            report, retrieve_ae=found.called_ae, transfer_syntax=request.transfer_syntax
        )
        status = yield from request.events.report(
            SOPInstanceUID=COMMITMENT_INSTANCE, event_type=report.event_type, encoded=encoded
        )
        partner = self._partners.label(found.calling_ae)
        told = status == SUCCESS.code
        metrics.COMMITMENT_REPORTS.labels(partner, "told" if told else "refused").inc()
        if told:
            yield from awaited(self._threads.submit(self._told, found.pk))

    def _hold(self, pk: int) -> Commitment | None:
        with transaction(self._engine) as connection:
            return hold(connection, pk, lease=_HOLD)

    def _told(self, pk: int) -> None:
        with transaction(self._engine) as connection:
            write_reported(connection, pk)


class ReportService:
    """Answers N-EVENT-REPORT of destinations that we asked for commitment; it is `report`."""

    def __init__(self, hearer: ReportHearer, *, threads: ThreadPoolExecutor) -> None:
        self._hearer = hearer
        self._threads = threads

    def report(self, request: OperationRequest) -> Answers:
        """Hear a report over an association of the destination's."""
        told = EventReport(request.type_id, request.identifier, request.transfer_syntax)
        heard = self._threads.submit(self._hearer.hear, told, calling_ae=request.peer.calling_ae)
        status = yield from awaited(heard)
        metrics.REPORTS_HEARD.labels(f"{status.code:04X}").inc()
        yield Answer(status)
