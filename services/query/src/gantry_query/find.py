"""C-FIND: a request's identifier becomes a question, the pages of its matches become answers.

The association hears a cancel while the database works: it looks for the first page itself, now and
then, and the others are asked for by threads, the next while one is sent. Between two pages no
connection is held.
"""

import threading
import time
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Engine

from gantry_archive.find_failures import FindAnswers, failures_answered
from gantry_dimse.operations import PENDING_CODES, Answer, Answers, OperationRequest
from gantry_dimse.partners import Partners
from gantry_domain.find_identifier import FindIdentifier, read_find_identifier
from gantry_domain.find_question import Agreed, FindQuestion, find_question
from gantry_domain.identifier_encoding import Document, IdentifierEncoder
from gantry_domain.information_models import InformationModel
from gantry_domain.query import PageRequest, Query
from gantry_domain.sight import Sight
from gantry_domain.statuses import (
    CANCEL,
    NOT_AUTHORIZED,
    OUT_OF_RESOURCES_TO_FIND,
    PENDING,
    PENDING_WARNING,
    SUCCESS,
)
from gantry_query import metrics
from gantry_stores.index.search import Page, Searching, search

# The first answers come soon; later pages are worth their statement.
_FIRST_PAGE = 250
_PAGE = 1000

# How long an answer is waited for before the peer is listened to again, in seconds.
_PATIENCE = 0.05

_NO_LEVEL = "none"
_PEER_GONE = "gone"


class FindService:
    """Answers C-FIND requests of one information model; the operation is `find`."""

    def __init__(
        self,
        *,
        engine: Engine,
        pages: ThreadPoolExecutor,
        first_pages: threading.BoundedSemaphore,
        partners: Partners,
        model: InformationModel,
        retrieve_ae: str,
        zone: ZoneInfo,
        max_matches: int | None = None,
    ) -> None:
        """`pages`: the threads that ask the index. `max_matches`: None is without limit.

        `first_pages`: so many associations at a time ask for a first page without a thread, which
        costs more than a small question; the others ask by one. `zone`: that of dates and times
        that name none.
        """
        self._engine = engine
        self._pages = pages
        self._first_pages = first_pages
        self._partners = partners
        self._model = model
        self._retrieve_ae = retrieve_ae
        self._zone = zone
        self._max_matches = max_matches

    def find(self, request: OperationRequest) -> Answers:
        """The answers to one request. Whatever fails is the final one."""
        counted = _Counted(self._partners.label(request.peer.calling_ae))
        try:
            for answer in failures_answered(self._answers(request, counted), service="find"):
                counted.see(answer)
                yield answer
        finally:
            counted.tell()

    def _answers(self, request: OperationRequest, counted: "_Counted") -> FindAnswers:
        calling_ae = request.peer.calling_ae
        charset = self._partners.charset(calling_ae)
        if not self._partners.may(calling_ae, "find"):
            yield Answer(NOT_AUTHORIZED, error_comment="this AE title may not query")
            return
        identifier = read_find_identifier(
            request.identifier,
            transfer_syntax=request.transfer_syntax,
            default_charset=charset,
        )
        question = find_question(
            identifier,
            model=self._model,
            page=PageRequest(_FIRST_PAGE),
            agreed=Agreed(
                relational=request.relational,
                moments=request.moments,
                loose_names=request.loose_names,
                zone=request.zone,
                local=self._zone,
            ),
        )
        counted.level = question.query.level.value
        yield from self._matches(request, identifier, question, charset)

    def _matches(
        self,
        request: OperationRequest,
        identifier: FindIdentifier,
        question: FindQuestion,
        charset: str | None,
    ) -> FindAnswers:
        zone = question.answers_in
        encoder = IdentifierEncoder(
            identifier,
            level=question.query.level,
            retrieve_ae=self._retrieve_ae,
            transfer_syntax=request.transfer_syntax,
            charsets=(charset, identifier.charset),
            timezone=None if zone is None else zone.text,
        )
        status = PENDING if question.complete else PENDING_WARNING
        left = self._max_matches
        sight = self._partners.sight(request.peer.calling_ae)
        cancellation = request.cancellation
        for document in self._documents(question.query, sight):
            if cancellation.requested:
                yield Answer(CANCEL)
                return
            if document is None:
                yield None
                continue
            if left is not None:
                if left == 0:
                    comment = f"only the first {self._max_matches} matches are returned"
                    yield Answer(OUT_OF_RESOURCES_TO_FIND, error_comment=comment)
                    return
                left -= 1
            shown = document if zone is None else zone.adjusted(document)
            yield Answer(status, encoder.encode(shown))
        yield Answer(CANCEL if cancellation.requested else SUCCESS)

    def _documents(self, query: Query, sight: Sight) -> Generator[Document | None, None, None]:
        """The matches page by page; None while there is none yet."""
        if self._first_pages.acquire(blocking=False):
            try:
                page = yield from self._first(query, sight)
            finally:
                self._first_pages.release()
        else:
            page = yield from self._awaited(self._ask(query, sight))
        while page.next is not None:
            place = PageRequest(_PAGE, after=page.next)
            future = self._ask(replace(query, page=place), sight)
            try:
                yield from page.rows
                page = yield from self._awaited(future)
            finally:
                future.cancel()
        yield from page.rows

    def _first(self, query: Query, sight: Sight) -> Generator[None, None, Page]:
        with Searching(self._engine, query, sight=sight) as searching:
            while not searching.answered(_PATIENCE):
                yield None
            return searching.page()

    def _awaited(self, future: Future[Page]) -> Generator[None, None, Page]:
        while not wait((future,), _PATIENCE).done:
            yield None
        return future.result()

    def _ask(self, query: Query, sight: Sight) -> Future[Page]:
        return self._pages.submit(search, self._engine, query, sight=sight)


@dataclass(slots=True)
class _Counted:
    """What is counted of one request."""

    partner: str
    level: str = _NO_LEVEL
    status: str = _PEER_GONE
    matches: int = 0
    begun: float = 0.0

    def __post_init__(self) -> None:
        self.begun = time.monotonic()

    def see(self, answer: Answer | None) -> None:
        """An answer that is sent."""
        if answer is None:
            return
        if answer.status.code in PENDING_CODES:
            self.matches += 1
        else:
            self.status = f"{answer.status.code:04X}"

    def tell(self) -> None:
        """The request has come to its end, or its peer to theirs."""
        metrics.FINDS.labels(self.partner, self.level, self.status).inc()
        metrics.FIND_SECONDS.labels(self.level).observe(time.monotonic() - self.begun)
        metrics.FIND_MATCHES.labels(self.partner, self.level).inc(self.matches)
