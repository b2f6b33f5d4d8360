"""C-MOVE and C-GET: a request's identifier becomes a retrieval, its progress becomes answers.

Both count the instances first, wait for their turn, and answer Pending now and then. C-MOVE sends
in a thread of its own, C-GET in that of the association, step by step.
"""

import threading
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field, replace

from sqlalchemy.engine import Engine

from gantry_archive.destinations import Destination
from gantry_archive.moving import Moving
from gantry_archive.outbound import prepared, prepared_without_bulk_data, why_unsent
from gantry_archive.read_ahead import Opened, ReadAhead, close_opened
from gantry_archive.retrieval import Retrieval, Tally
from gantry_dimse.message_pdus import MoveOriginator
from gantry_dimse.operations import Answer, Answers, OperationBroken, OperationRequest
from gantry_dimse.partners import Partners
from gantry_dimse.requesting import Timeouts
from gantry_dimse.reverse_storage import Awaiting, Outgoing
from gantry_domain.dictionary import KEYWORDS
from gantry_domain.errors import PermanentError, TransientError
from gantry_domain.find_identifier import read_find_identifier
from gantry_domain.identifier_encoding import encode_text_element
from gantry_domain.information_models import InformationModel
from gantry_domain.query import BadQuery
from gantry_domain.retrieve_question import RetrieveQuestion, retrieve_question
from gantry_domain.sight import Sight
from gantry_domain.statuses import (
    IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS,
    MOVE_DESTINATION_UNKNOWN,
    NOT_AUTHORIZED,
    OUT_OF_RESOURCES_TO_COUNT,
    OUT_OF_RESOURCES_TO_SEND,
    PENDING,
    UNABLE_TO_PROCESS,
)
from gantry_domain.store_responses import StoreResult, read_store_status
from gantry_query import metrics
from gantry_runtime.logs import get_logger
from gantry_stores.index.search import Holding
from gantry_stores.objects import ObjectStore

log = get_logger(__name__)

_MOVE, _GET = "move", "get"

# How long anything is waited for before the peer is listened to again, in seconds.
_PATIENCE = 0.05
# Between two Pending responses.
_PENDING_EVERY = 1.0
# How long an instance that is on its way when the peer cancels may still take.
_CANCEL_PATIENCE = 5.0

_FAILED_SOP_INSTANCE_UID_LIST = 0x00080058
_NO_LEVEL = "none"
_PEER_GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieving:
    """What all retrievals of this process share.

    `questions` are the threads that ask the index, `readers` those that open objects, `movers`
    those that send them elsewhere: as many as there are `turns`. `store` raises a `TransientError`
    while there is none.
    """

    engine: Engine
    store: Callable[[], ObjectStore]
    partners: Partners
    destinations: Mapping[str, Destination]
    timeouts: Timeouts
    questions: Executor
    readers: Executor
    movers: ThreadPoolExecutor
    turns: threading.Semaphore


class RetrieveService:
    """Answers the retrievals of one information model: the operations are `move` and `get`."""

    def __init__(self, shared: Retrieving, *, model: InformationModel) -> None:
        self._shared = shared
        self._model = model
        self._destinations = {
            title.casefold(): destination for title, destination in shared.destinations.items()
        }

    def move(self, request: OperationRequest) -> Answers:
        """The answers to a C-MOVE. Whatever fails is the final one."""
        return self._answered(_MOVE, request, self._move)

    def get(self, request: OperationRequest) -> Answers:
        """The answers to a C-GET, and the requests that it makes of the peer."""
        return self._answered(_GET, request, self._get)

    def _answered(
        self,
        service: str,
        request: OperationRequest,
        steps: "Callable[[OperationRequest, _Progress], Answers]",
    ) -> Answers:
        progress = _Progress(service, self._shared.partners.label(request.peer.calling_ae))
        try:
            with closing(self._guarded(request, progress, steps)) as guarded:
                for step in guarded:
                    progress.see(step)
                    yield step
        finally:
            progress.tell()

    def _guarded(
        self,
        request: OperationRequest,
        progress: "_Progress",
        steps: "Callable[[OperationRequest, _Progress], Answers]",
    ) -> Answers:
        if not self._shared.partners.may(request.peer.calling_ae, progress.service):
            comment = f"this AE title may not retrieve by C-{progress.service.upper()}"
            yield Answer(NOT_AUTHORIZED, error_comment=comment)
            return
        try:
            yield from steps(request, progress)
        except BadQuery as error:
            tag = KEYWORDS.get(error.parameter)
            yield Answer(
                IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS,
                error_comment=str(error),
                offending=() if tag is None else (tag,),
            )
        except TransientError as error:
            log.warning("retrieval_put_off", service=progress.service, error=type(error).__name__)
            if progress.tally is None:
                comment = "the index does not answer in time: try again later"
                yield Answer(OUT_OF_RESOURCES_TO_COUNT, error_comment=comment)
            else:
                yield self._final(request, progress)
        except PermanentError as error:
            log.error("retrieval_refused", service=progress.service, error=type(error).__name__)
            yield Answer(UNABLE_TO_PROCESS, error_comment="the index refuses this question")
        except OperationBroken:
            raise
        # The door of the operation: the peer gets an answer, whatever failed.
        except Exception:
            log.exception("retrieval_failed", service=progress.service)
            yield Answer(UNABLE_TO_PROCESS, error_comment="an error of the archive: see its log")

    def _move(self, request: OperationRequest, progress: "_Progress") -> Answers:
        question = self._question(request, progress)
        destination = self._destinations.get(request.move_destination.casefold())
        if destination is None:
            comment = "no partner with an address has this AE title"
            yield Answer(MOVE_DESTINATION_UNKNOWN, error_comment=comment)
            return
        shared = self._shared
        sight = shared.partners.sight(request.peer.calling_ae)
        # What is held goes to nobody who could not fetch it himself.
        sight = replace(sight, held=sight.held and destination.sees_held)
        retrieval, held = yield from self._counted(request, question, progress, sight)
        moving = Moving(
            retrieval=retrieval,
            holdings=held,
            destination=destination,
            originator=MoveOriginator(request.peer.calling_ae, request.message_id),
            store=shared.store(),
            readers=shared.readers,
            timeouts=shared.timeouts,
            tally=progress.begun,
        )
        if not (yield from self._turn(request, progress)):
            yield self._final(request, progress)
            return
        done = shared.movers.submit(moving.run)
        done.add_done_callback(lambda _done: shared.turns.release())
        try:
            patience = float("inf")
            while not wait((done,), _PATIENCE).done:
                if request.cancellation.requested:
                    patience = min(patience, time.monotonic() + _CANCEL_PATIENCE)
                    moving.stop(at_once=time.monotonic() > patience)
                yield progress.pending_if_due()
            done.result()
        finally:
            moving.stop(at_once=True)
            progress.bytes_sent = moving.bytes_sent
            progress.trouble = moving.trouble
        yield self._final(request, progress)

    def _get(self, request: OperationRequest, progress: "_Progress") -> Answers:
        question = self._question(request, progress)
        sight = self._shared.partners.sight(request.peer.calling_ae)
        retrieval, _held = yield from self._counted(request, question, progress, sight)
        store = self._shared.store()
        if not (yield from self._turn(request, progress)):
            yield self._final(request, progress)
            return
        ahead = ReadAhead(
            retrieval.instances(),
            request.reverse.contexts,
            store=store,
            readers=self._shared.readers,
            prepare=prepared if self._model.bulk_data else prepared_without_bulk_data,
        )
        before = request.reverse.bytes_sent
        try:
            while not request.cancellation.requested:
                future = ahead.next()
                try:
                    while not wait((future,), _PATIENCE).done:
                        yield progress.pending_if_due()
                    opened = future.result()
                except GeneratorExit:
                    future.add_done_callback(close_opened)
                    raise
                if opened is None:
                    break
                with closing(opened):
                    yield from self._send(request, opened, progress)
                if (pending := progress.pending_if_due()) is not None:
                    yield pending
        finally:
            self._shared.turns.release()
            ahead.close()
            progress.bytes_sent = request.reverse.bytes_sent - before
        yield self._final(request, progress)

    def _send(self, request: OperationRequest, opened: Opened, progress: "_Progress") -> Answers:
        uid = opened.instance.SOPInstanceUID
        if opened.context is None:
            progress.trouble = why_unsent(opened.failure)
            progress.begun.add(uid, StoreResult.FAILED)
            return
        try:
            status = yield from request.reverse.store(
                SOPClassUID=opened.instance.SOPClassUID,
                SOPInstanceUID=uid,
                context=opened.context,
                chunks=opened.chunks,
            )
        except (PermanentError, TransientError) as error:
            # Half of the object is with the peer, and nothing else can follow it.
            raise OperationBroken(f"an object could not be read: {type(error).__name__}") from error
        answer = read_store_status(status)
        if not answer.result.stored:
            progress.trouble = answer.reason
        progress.begun.add(uid, answer.result)

    def _question(self, request: OperationRequest, progress: "_Progress") -> RetrieveQuestion:
        identifier = read_find_identifier(
            request.identifier,
            transfer_syntax=request.transfer_syntax,
            default_charset=self._shared.partners.charset(request.peer.calling_ae),
        )
        question = retrieve_question(identifier, model=self._model, relational=request.relational)
        progress.level = question.level.value
        return question

    def _counted(
        self,
        request: OperationRequest,
        question: RetrieveQuestion,
        progress: "_Progress",
        sight: Sight,
    ) -> Generator[None, None, tuple[Retrieval, list[Holding]]]:
        """The retrieval and what there is of it."""
        retrieval = Retrieval(engine=self._shared.engine, keys=question.keys, sight=sight)
        future = self._shared.questions.submit(retrieval.holdings)
        try:
            while not wait((future,), _PATIENCE).done:
                yield None
            held = future.result()
        finally:
            future.cancel()
        progress.tally = Tally(sum(each.instances for each in held))
        return retrieval, held

    def _turn(
        self, request: OperationRequest, progress: "_Progress"
    ) -> Generator[Answer | None, None, bool]:
        """Wait until fewer are retrieving; False: cancelled before that."""
        yield progress.pending_if_due()
        while not request.cancellation.requested:
            if self._shared.turns.acquire(timeout=_PATIENCE):
                return True
            yield progress.pending_if_due()
        return False

    def _final(self, request: OperationRequest, progress: "_Progress") -> Answer:
        tally = progress.begun
        cancelled = request.cancellation.requested and tally.counts.remaining > 0
        if not cancelled:
            tally.end()
        counts = tally.counts
        status = counts.final_status(cancelled=cancelled)
        if counts.failed:
            log.warning(
                "retrieval_incomplete",
                service=progress.service,
                calling_ae=request.peer.calling_ae,
                failed=counts.failed,
                arrived=counts.completed + counts.warning,
                reason=progress.trouble,
            )
        identifier = b""
        if failed := "\\".join(tally.failed_uids):
            identifier = encode_text_element(
                _FAILED_SOP_INSTANCE_UID_LIST,
                "UI",
                failed,
                transfer_syntax=request.transfer_syntax,
            )
        comment = (progress.trouble or "") if status is OUT_OF_RESOURCES_TO_SEND else ""
        return Answer(status, identifier, error_comment=comment, sub_operations=counts)


@dataclass(slots=True)
class _Progress:
    """How far one retrieval is, and what is counted of it."""

    service: str
    partner: str
    level: str = _NO_LEVEL
    status: str = _PEER_GONE
    tally: Tally | None = None
    trouble: str | None = None
    """The last reason why something did not arrive, without patient data."""
    bytes_sent: int = 0
    _since: float = field(default_factory=time.monotonic)
    _pending_at: float = 0.0

    @property
    def begun(self) -> Tally:
        """The tally, once the instances are counted."""
        assert self.tally is not None
        return self.tally

    def pending_if_due(self) -> Answer | None:
        """A Pending response with the counts, if the last one was long ago."""
        now = time.monotonic()
        if now < self._pending_at or not self.begun.counts.remaining:
            return None
        self._pending_at = now + _PENDING_EVERY
        return Answer(PENDING, sub_operations=self.begun.counts)

    def see(self, step: Answer | Outgoing | Awaiting | None) -> None:
        """A step that is taken."""
        if isinstance(step, Answer) and step.status != PENDING:
            self.status = f"{step.status.code:04X}"

    def tell(self) -> None:
        """The request has come to its end, or its peer to theirs."""
        metrics.RETRIEVALS.labels(self.service, self.partner, self.level, self.status).inc()
        metrics.RETRIEVAL_SECONDS.labels(self.service).observe(time.monotonic() - self._since)
        metrics.RETRIEVAL_BYTES.labels(self.service).inc(self.bytes_sent)
        if self.tally is None:
            return
        counts = self.tally.counts
        for outcome, number in (
            ("completed", counts.completed),
            ("warning", counts.warning),
            ("failed", counts.failed),
            ("not_tried", counts.remaining),
        ):
            metrics.SUB_OPERATIONS.labels(self.service, self.partner, outcome).inc(number)
