"""A message becomes changes of orders, and its acknowledgement.

Acknowledged is what is committed. While the database is away nothing is answered, for then the
sender keeps the message and tries again.
"""

import threading
import time
from collections.abc import Callable
from datetime import datetime
from uuid import uuid4
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Engine

from gantry_domain.errors import PermanentError, TransientError
from gantry_domain.hl7.acknowledgement import (
    INTERNAL_ERROR,
    RECORD_LOCKED,
    SEGMENT_SEQUENCE,
    UNKNOWN_KEY,
    Ack,
    Refusal,
    acknowledgement,
)
from gantry_domain.hl7.acknowledgement_mode import wanted_of
from gantry_domain.hl7.batches import BrokenBatch, read_batch
from gantry_domain.hl7.framing import Frame
from gantry_domain.hl7.interpretation import Understood, interpret
from gantry_domain.hl7.message import Message, UnreadableMessage, read_message
from gantry_domain.hl7.rules import Rules
from gantry_domain.orders.refusals import ChangeRefused, StateNotAllowed
from gantry_runtime.logs import get_logger
from gantry_stores.index.database import transaction
from gantry_stores.index.orders.applying import apply_changes
from gantry_stores.index.orders.messages import ReceivedMessage, note_accepted, note_refused
from gantry_worklist import metrics

log = get_logger(__name__)

# What else comes is one kind for a metric: senders may call their messages as they like.
_KINDS = frozenset(("ORM", "OMI", "OMG", "SIU", "ADT", "ORU", "ACK"))
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


class Feed:
    """Takes messages of one partition; safe for use by many threads."""

    def __init__(
        self,
        *,
        engine: Engine,
        rules: Rules,
        partition: str,
        zone: ZoneInfo,
        charset: str | None,
        patience: float,
        stopping: threading.Event,
        enhanced: bool = False,
    ) -> None:
        """`patience`: seconds for which a message waits for the database. `enhanced`: a message
        that asks by MSH-15 and MSH-16 for other acknowledgements gets them."""
        self._engine = engine
        self._rules = rules
        self._partition = partition
        self._zone = zone
        self._charset = charset
        self._patience = patience
        self._stopping = stopping
        self._enhanced = enhanced

    def answer(self, frame: Frame, host: str) -> list[bytes] | None:
        """What a message, or a batch of them, is answered with; None: the sender is to try again.

        What a batch had taken by then comes again and has no further effect.
        """
        try:
            batch = None if frame.too_large else read_batch(frame.content)
        except BrokenBatch as error:
            refusal = Refusal(Ack.REJECTED, SEGMENT_SEQUENCE, str(error))
            log.warning("hl7_batch_refused", reason=str(error))
            metrics.MESSAGES.labels("other", Ack.REJECTED.value).inc()
            return [self._acknowledgement(frame.content, refusal, datetime.now(self._zone))]
        if batch is None:
            return self._answer_one(frame, host)
        answers: list[bytes] = []
        for content in batch.messages:
            answered = self._answer_one(Frame(content), host)
            if answered is None:
                return None
            answers += answered
        return [batch.answered(answers, datetime.now(self._zone))] if answers else []

    def _answer_one(self, frame: Frame, host: str) -> list[bytes] | None:
        begun = time.monotonic()
        now = datetime.now(self._zone)
        message, meaning = self._understood(frame)
        received = ReceivedMessage(
            content=frame.content,
            received_at=now,
            partition=self._partition,
            host=host,
            **({} if message is None else _names(message)),
        )
        outcome = self._patiently(lambda: self._committed(received, meaning, now))
        kind = "other"
        if message is not None and message.kind in _KINDS:
            kind = message.kind
        if isinstance(outcome, TransientError):
            metrics.UNANSWERED.inc()
            log.warning("hl7_message_unanswered", kind=kind, error=type(outcome).__name__)
            return None
        ack = Ack.ACCEPTED if outcome is None else outcome.ack
        metrics.MESSAGES.labels(kind, ack.value).inc()
        metrics.MESSAGE_SECONDS.observe(time.monotonic() - begun)
        if outcome is not None:
            log.warning("hl7_message_refused", kind=kind, ack=ack.value, reason=outcome.text)
        content = frame.content
        if self._enhanced and (wanted := wanted_of(content)) is not None:
            return [
                acknowledgement(content, control_id=_new_id(), now=now, refusal=outcome, code=code)
                for code in wanted.codes(ack)
            ]
        return [self._acknowledgement(content, outcome, now)]

    def _acknowledgement(self, content: bytes, refusal: Refusal | None, now: datetime) -> bytes:
        return acknowledgement(content, control_id=_new_id(), now=now, refusal=refusal)

    def _understood(self, frame: Frame) -> tuple[Message | None, Understood | Refusal]:
        try:
            message = read_message(frame.content, default_charset=self._charset)
            if frame.too_large:
                return message, Refusal(
                    Ack.REJECTED, INTERNAL_ERROR, "the message is larger than configured"
                )
            return message, interpret(message, self._rules)
        except UnreadableMessage as error:
            return None, Refusal(
                Ack.REJECTED, SEGMENT_SEQUENCE, f"this is no message of HL7 v2: {error}"
            )
        # A message that nobody thought of must not be sent again for ever.
        except Exception:
            metrics.HL7_FAILURES.inc()
            log.exception("hl7_message_not_read")
            return None, Refusal(Ack.ERROR, INTERNAL_ERROR, "an error of the archive: see its log")

    def _patiently(self, attempt: Callable[[], Refusal | None]) -> Refusal | TransientError | None:
        """Tries until the database is there, or nobody can wait any longer."""
        deadline = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return attempt()
            except TransientError as error:
                if time.monotonic() + pause > deadline or self._stopping.wait(pause):
                    return error
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _committed(
        self, received: ReceivedMessage, meaning: Understood | Refusal, now: datetime
    ) -> Refusal | None:
        """Commits what it means; the refusal, if it is refused. Raises `TransientError`."""
        if isinstance(meaning, Understood):
            try:
                self._apply(received, meaning, now)
            except ChangeRefused as error:
                meaning = _refusal_of(error)
            except PermanentError as error:
                metrics.HL7_FAILURES.inc()
                log.error("hl7_message_not_stored", reason=str(error))
                meaning = Refusal(Ack.ERROR, INTERNAL_ERROR, "the database refuses this message")
            except TransientError:
                raise
            # As above.
            except Exception:
                metrics.HL7_FAILURES.inc()
                log.exception("hl7_message_failed")
                meaning = Refusal(Ack.ERROR, INTERNAL_ERROR, "an error of the archive: see its log")
            else:
                return None
        with transaction(self._engine) as connection:
            note_refused(connection, received, meaning.ack.value, meaning.text)
        return meaning

    def _apply(self, received: ReceivedMessage, meaning: Understood, now: datetime) -> None:
        with transaction(self._engine) as connection:
            is_new = note_accepted(connection, received, meaning.findings)
            if is_new:
                apply_changes(connection, meaning.changes, partition=self._partition, now=now)
        if not is_new:
            metrics.DUPLICATES.inc()
            return
        for finding in meaning.findings:
            metrics.FINDINGS.labels(finding.split(" ")[0]).inc()


def _new_id() -> str:
    return uuid4().hex[:20]


def _names(message: Message) -> dict[str, str]:
    header = message.header
    kind = f"{message.kind}^{message.event}" if message.event else message.kind
    return {
        "sending_application": header.raw(3),
        "sending_facility": header.raw(4),
        "control_id": header.raw(10),
        "kind": kind,
    }


def _refusal_of(error: ChangeRefused) -> Refusal:
    condition = RECORD_LOCKED if isinstance(error, StateNotAllowed) else UNKNOWN_KEY
    return Refusal(Ack.ERROR, condition, str(error))
