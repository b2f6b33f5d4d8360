"""The MPPS SCP: N-CREATE and N-SET of performed procedure steps (PS3.4 Annex F)."""

from collections.abc import Callable, Collection, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from uuid import uuid4
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection, Engine

from gantry_archive.asking import awaited
from gantry_dimse.operations import Answer, Answers, OperationRequest
from gantry_dimse.partners import Partners
from gantry_domain.data_set_json import UnreadableDataSet, read_data_set
from gantry_domain.errors import PermanentError, TransientError
from gantry_domain.json_model import Element, valid_uid
from gantry_domain.orders.attributes import tag_of
from gantry_domain.orders.refusals import PerformedExists, PerformedOver, PerformedUnknown
from gantry_domain.orders.states import Performed
from gantry_domain.statuses import (
    DUPLICATE_SOP_INSTANCE,
    INVALID_ATTRIBUTE_VALUE,
    MISSING_ATTRIBUTE,
    MISSING_ATTRIBUTE_VALUE,
    NO_SUCH_OBJECT_INSTANCE,
    NOT_AUTHORIZED,
    PERFORMED_STEP_OVER,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    SUCCESS,
    Status,
)
from gantry_runtime.logs import get_logger
from gantry_stores.index.database import transaction
from gantry_stores.index.orders.performing import create_performed, set_performed
from gantry_stores.index.orders.reports import Report, add_reports
from gantry_worklist import metrics

log = get_logger(__name__)

_STATE = tag_of("PerformedProcedureStepStatus")
_SCHEDULED = tag_of("ScheduledStepAttributesSequence")
_STUDY = tag_of("StudyInstanceUID")
# Told once, by N-CREATE (PS3.4 Table F.7.2-1): the patient and what was scheduled.
_NOT_SET = frozenset(
    tag_of(keyword)
    for keyword in (
        "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
        "ScheduledStepAttributesSequence", "PerformedProcedureStepID", "PerformedStationAETitle",
        "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "Modality",
    )
)  # fmt: skip

_Done = Generator[Answer | None, None, None]


class _Refused(Exception):
    def __init__(self, status: Status, comment: str, tag: str) -> None:
        super().__init__(comment)
        self.answer = Answer(status, error_comment=comment, offending=(int(tag, 16),))


class PerformingService:
    """Answers N-CREATE (`create`) and N-SET (`set`)."""

    def __init__(
        self,
        *,
        engine: Engine,
        threads: ThreadPoolExecutor,
        partners: Partners,
        zone: ZoneInfo,
        passed_on_to: Collection[str] = (),
    ) -> None:
        """`threads` ask the index. `passed_on_to`: the AE titles that are told, too."""
        self._engine = engine
        self._threads = threads
        self._partners = partners
        self._zone = zone
        self._passed_on_to = passed_on_to

    def create(self, request: OperationRequest) -> Answers:
        """Begin a performed step."""
        yield from self._counted("create", request, self._create)

    def set(self, request: OperationRequest) -> Answers:
        """Change or end a performed step."""
        yield from self._counted("set", request, self._set)

    def _counted(
        self,
        operation: str,
        request: OperationRequest,
        act: Callable[[OperationRequest, dict[str, Element]], _Done],
    ) -> _Done:
        for answer in self._answered(request, act):
            if answer is not None:
                partner = self._partners.label(request.peer.calling_ae)
                status = f"{answer.status.code:04X}"
                metrics.PERFORMED.labels(operation, partner, status).inc()
            yield answer

    def _answered(
        self,
        request: OperationRequest,
        act: Callable[[OperationRequest, dict[str, Element]], _Done],
    ) -> _Done:
        calling_ae = request.peer.calling_ae
        if not self._partners.may(calling_ae, "mpps"):
            comment = "this AE title may not tell what it performed"
            yield Answer(NOT_AUTHORIZED, error_comment=comment)
            return
        try:
            attributes = read_data_set(
                request.identifier,
                transfer_syntax=request.transfer_syntax,
                default_charset=self._partners.charset(calling_ae),
            )
            yield from act(request, attributes)
        except _Refused as refused:
            yield refused.answer
        except UnreadableDataSet as error:
            yield Answer(PROCESSING_FAILURE, error_comment=str(error))
        except PerformedExists as error:
            yield Answer(DUPLICATE_SOP_INSTANCE, error_comment=str(error))
        except PerformedUnknown as error:
            yield Answer(NO_SUCH_OBJECT_INSTANCE, error_comment=str(error))
        except PerformedOver as error:
            comment = str(error)
            yield Answer(PROCESSING_FAILURE, error_comment=comment, error_id=PERFORMED_STEP_OVER)
        except TransientError as error:
            log.warning("mpps_put_off", error=type(error).__name__)
            comment = "the index does not answer in time: try again later"
            yield Answer(RESOURCE_LIMITATION, error_comment=comment)
        except PermanentError as error:
            log.error("mpps_refused", error=type(error).__name__, reason=str(error))
            yield Answer(PROCESSING_FAILURE, error_comment="the index refuses this step")
        # The door of the operation: the peer gets an answer, whatever failed.
        except Exception:
            log.exception("mpps_failed")
            yield Answer(PROCESSING_FAILURE, error_comment="an error of the archive: see its log")

    def _create(self, request: OperationRequest, attributes: dict[str, Element]) -> _Done:
        if _state_in(attributes, required=True) is not Performed.IN_PROGRESS:
            comment = "a step is created with the status IN PROGRESS"
            raise _Refused(INVALID_ATTRIBUTE_VALUE, comment, _STATE)
        _check_scheduled(attributes)
        uid = request.SOPInstanceUID
        if uid and not valid_uid(uid):
            raise _Refused(INVALID_ATTRIBUTE_VALUE, "the SOP Instance UID is none", "00080018")
        uid = uid or f"2.25.{uuid4().int}"
        found = yield from awaited(self._threads.submit(self._store_new, request, uid, attributes))
        if not found:
            metrics.UNSCHEDULED.inc()
        yield Answer(SUCCESS, SOPInstanceUID=uid)

    def _store_new(
        self, request: OperationRequest, uid: str, attributes: dict[str, Element]
    ) -> int:
        now = datetime.now(self._zone)
        with transaction(self._engine) as connection:
            found = create_performed(
                connection,
                uid,
                attributes,
                partition=self._partners.partition(request.peer.calling_ae),
                calling_ae=request.peer.calling_ae,
                now=now,
            )
            self._pass_on(connection, request, "create", uid, now)
        return found

    def _set(self, request: OperationRequest, attributes: dict[str, Element]) -> _Done:
        state = _state_in(attributes, required=False)
        told = {tag: element for tag, element in attributes.items() if tag not in _NOT_SET}
        yield from awaited(self._threads.submit(self._store_set, request, told, state))
        yield Answer(SUCCESS)

    def _store_set(
        self, request: OperationRequest, attributes: dict[str, Element], state: Performed | None
    ) -> int:
        now = datetime.now(self._zone)
        with transaction(self._engine) as connection:
            found = set_performed(
                connection,
                request.SOPInstanceUID,
                attributes,
                state,
                partition=self._partners.partition(request.peer.calling_ae),
                now=now,
            )
            self._pass_on(connection, request, "set", request.SOPInstanceUID, now)
        return found

    def _pass_on(
        self,
        connection: Connection,
        request: OperationRequest,
        operation: str,
        uid: str,
        now: datetime,
    ) -> None:
        report = Report(
            SOPInstanceUID=uid,
            operation=operation,
            transfer_syntax=request.transfer_syntax,
            content=request.identifier,
        )
        # Not to whom it comes from: two that pass on to each other would never end.
        caller = request.peer.calling_ae.casefold()
        others = [title for title in self._passed_on_to if title.casefold() != caller]
        add_reports(connection, report, others, now=now)


def _state_in(attributes: dict[str, Element], *, required: bool) -> Performed | None:
    element = attributes.get(_STATE)
    if element is None:
        if required:
            raise _Refused(MISSING_ATTRIBUTE, "the status of the step is missing", _STATE)
        return None
    values = element.get("Value", [])
    if not values:
        raise _Refused(MISSING_ATTRIBUTE_VALUE, "the status of the step is empty", _STATE)
    try:
        return Performed(values[0])
    except ValueError:
        comment = "a step is IN PROGRESS, COMPLETED or DISCONTINUED"
        raise _Refused(INVALID_ATTRIBUTE_VALUE, comment, _STATE) from None


def _check_scheduled(attributes: dict[str, Element]) -> None:
    """PS3.4 Table F.7.2-1: it says which study it is for, scheduled or not."""
    element = attributes.get(_SCHEDULED)
    if element is None:
        comment = "the Scheduled Step Attributes Sequence is missing"
        raise _Refused(MISSING_ATTRIBUTE, comment, _SCHEDULED)
    items = element.get("Value", [])
    if not items or not all((item or {}).get(_STUDY, {}).get("Value") for item in items):
        comment = "an item with a Study Instance UID is missing"
        raise _Refused(MISSING_ATTRIBUTE_VALUE, comment, _SCHEDULED)
