"""The worklist SCP: a request's identifier becomes a question, scheduled steps become answers.

(PS3.4 Annex K.) There is no limit to the answers unless one is configured: a modality takes any
other end than Success for a failure, and shows nothing.
"""

import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.engine import Engine

from gantry_archive.asking import awaited
from gantry_archive.find_failures import FindAnswers, failures_answered
from gantry_dimse.operations import PENDING_CODES, Answer, Answers, OperationRequest
from gantry_dimse.partners import Partners
from gantry_domain.find_identifier import FindIdentifier, read_find_identifier
from gantry_domain.identifier_encoding import IdentifierEncoder
from gantry_domain.orders.question import WorklistQuestion, worklist_question
from gantry_domain.statuses import (
    CANCEL,
    NOT_AUTHORIZED,
    OUT_OF_RESOURCES_TO_FIND,
    PENDING,
    PENDING_WARNING,
    SUCCESS,
)
from gantry_stores.index.database import transaction
from gantry_stores.index.orders.worklist import Position, WorklistPage, search_worklist
from gantry_worklist import metrics

_PAGE = 200
_PEER_GONE = "gone"


class WorklistService:
    """Answers C-FIND requests for the worklist; the operation is `find`."""

    def __init__(
        self,
        *,
        engine: Engine,
        threads: ThreadPoolExecutor,
        partners: Partners,
        unassigned: bool,
        filled_for: Collection[str] = (),
        max_matches: int | None = None,
    ) -> None:
        """`threads` ask the index. `unassigned`: see `search_worklist`. `filled_for`: the partners,
        casefolded, that want an item in code sequences without a code. `max_matches`: None is
        without limit."""
        self._engine = engine
        self._threads = threads
        self._partners = partners
        self._unassigned = unassigned
        self._filled_for = frozenset(filled_for)
        self._max_matches = max_matches

    def find(self, request: OperationRequest) -> Answers:
        """The answers to one request. Whatever fails is the final one."""
        begun = time.monotonic()
        partner = self._partners.label(request.peer.calling_ae)
        status, matches = _PEER_GONE, 0
        try:
            for answer in failures_answered(self._answers(request), service="worklist"):
                if answer is not None and answer.status.code in PENDING_CODES:
                    matches += 1
                elif answer is not None:
                    status = f"{answer.status.code:04X}"
                yield answer
        finally:
            metrics.FINDS.labels(partner, status).inc()
            metrics.FIND_SECONDS.observe(time.monotonic() - begun)
            metrics.FIND_MATCHES.labels(partner).inc(matches)

    def _answers(self, request: OperationRequest) -> FindAnswers:
        calling_ae = request.peer.calling_ae
        if not self._partners.may(calling_ae, "worklist"):
            yield Answer(NOT_AUTHORIZED, error_comment="this AE title may not ask for a worklist")
            return
        identifier = read_find_identifier(
            request.identifier,
            transfer_syntax=request.transfer_syntax,
            default_charset=self._partners.charset(calling_ae),
        )
        yield from self._matches(request, identifier, worklist_question(identifier))

    def _matches(
        self, request: OperationRequest, identifier: FindIdentifier, question: WorklistQuestion
    ) -> FindAnswers:
        calling_ae = request.peer.calling_ae
        encoder = IdentifierEncoder(
            identifier,
            transfer_syntax=request.transfer_syntax,
            charsets=(self._partners.charset(calling_ae), identifier.charset),
            filled_sequences=calling_ae.casefold() in self._filled_for,
        )
        status = PENDING if question.complete else PENDING_WARNING
        partition = self._partners.partition(calling_ae)
        cancellation = request.cancellation
        sent = 0
        after: Position | None = None
        while True:
            page = yield from awaited(self._threads.submit(self._page, question, partition, after))
            for document in page.rows:
                if cancellation.requested:
                    break
                if sent == self._max_matches:
                    comment = f"only the first {sent} matches are returned"
                    yield Answer(OUT_OF_RESOURCES_TO_FIND, error_comment=comment)
                    return
                sent += 1
                yield Answer(status, encoder.encode(document))
            if cancellation.requested or page.next is None:
                yield Answer(CANCEL if cancellation.requested else SUCCESS)
                return
            after = page.next

    def _page(
        self, question: WorklistQuestion, partition: str, after: Position | None
    ) -> WorklistPage:
        with transaction(self._engine) as connection:
            return search_worklist(
                connection,
                question,
                partition=partition,
                limit=_PAGE,
                after=after,
                unassigned=self._unassigned,
            )
