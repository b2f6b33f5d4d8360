"""Sends the items of a round over STOW-RS (PS3.18 10.5), one in each request.

So an error of the whole request is that of one instance, and what a kill repeats is one. A server
that does not take the stored syntax gets Explicit VR Little Endian.
"""

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import orjson

from gantry_archive.carrying import OUTCOMES, NobodyThere, Pair, Round, RoundFailed, unsent
from gantry_archive.outbound import NotSendable
from gantry_archive.web_connection import WebAnswer, WebConnection
from gantry_archive.web_destinations import WebDestination
from gantry_dimse.peer_errors import AssociationLost, Interrupted, PeerTimedOut, Unreachable
from gantry_dimse.proposals import NegotiatedContext, NegotiatedContexts
from gantry_dimse.requesting import Timeouts
from gantry_domain.deliveries import ItemState
from gantry_domain.errors import TransientError, UnreadableObject
from gantry_domain.file_meta import FileMeta, encode_file_meta
from gantry_domain.store_responses import StoreResult
from gantry_domain.stow_answers import AnswerScope, StowAnswer, read_stow_answer
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from gantry_stores.index.delivery_leases import ItemOutcome
from gantry_stores.index.stored_object import StoredObject
from gantry_stores.objects import ObjectNotFound, ObjectStore

_DICOM = "application/dicom"


@dataclass(slots=True, kw_only=True)
class WebCarrier:
    """A `Carrier` over STOW-RS."""

    destination: WebDestination
    store: ObjectStore
    timeouts: Timeouts
    _connection: WebConnection = field(init=False)
    _not_taken: set[tuple[str, str]] = field(default_factory=set, init=False)
    """SOP classes and transfer syntaxes that the server did not take so."""

    def __post_init__(self) -> None:
        self._connection = self.destination.connection(self.timeouts)

    def carry(self, pairs: Sequence[Pair], sending: Round) -> None:
        """See `Carrier`."""
        for pair in pairs:
            sending.check()
            self._send(pair, sending)

    def interrupt(self) -> None:
        """See `Carrier`."""
        self._connection.interrupt()

    def close(self) -> None:
        """See `Carrier`."""
        self._connection.close()

    def _send(self, pair: Pair, sending: Round) -> None:
        item, stored = pair
        started = time.monotonic()
        size = 0
        try:
            answer, size = self._store_either_way(stored, item.SOPInstanceUID)
        except (NotSendable, ObjectNotFound, UnreadableObject) as error:
            sending.settle(item, unsent(error), seconds=time.monotonic() - started)
            return
        except Unreachable as error:
            raise NobodyThere(str(error)) from error
        except NobodyThere as error:
            # It may be this instance that breaks something behind a proxy: others go before it.
            with suppress(RoundFailed):
                sending.settle(item, ItemOutcome(ItemState.FAILED, reason=str(error)))
            raise
        except Interrupted:
            raise
        except AssociationLost as error:
            sending.settle(item, ItemOutcome(ItemState.FAILED, reason=str(error)))
            if isinstance(error, PeerTimedOut):  # each further item would cost as long
                raise RoundFailed(str(error)) from error
            return
        except TransientError as error:
            raise RoundFailed(str(error)) from error
        sending.answers()
        plain = answer.result is StoreResult.ACCEPTED and not answer.code
        outcome = ItemOutcome(
            OUTCOMES[answer.result],
            status=answer.code,
            reason=None if plain else answer.reason,
            object_id=stored.object_id,
        )
        sending.settle(item, outcome, size=size, seconds=time.monotonic() - started)

    def _store_either_way(
        self, stored: StoredObject, SOPInstanceUID: str
    ) -> tuple[StowAnswer, int]:
        """As it is stored, else converted; the answer and the bytes of the data set."""
        kind = (stored.SOPClassUID, stored.TransferSyntaxUID)
        only = self.destination.transforms.syntaxes
        if kind not in self._not_taken and (not only or kind[1] in only):
            answer, size = self._store(stored, stored.TransferSyntaxUID, SOPInstanceUID)
            if answer.scope is not AnswerScope.SYNTAX or kind[1] == EXPLICIT_VR_LITTLE_ENDIAN:
                return answer, size
            self._not_taken.add(kind)
        return self._store(stored, EXPLICIT_VR_LITTLE_ENDIAN, SOPInstanceUID)

    def _store(
        self, stored: StoredObject, syntax: str, SOPInstanceUID: str
    ) -> tuple[StowAnswer, int]:
        contexts = NegotiatedContexts(
            [
                NegotiatedContext(number, stored.SOPClassUID, each)
                for number, each in enumerate(dict.fromkeys((syntax, EXPLICIT_VR_LITTLE_ENDIAN)))
            ]
        )
        with self.destination.transforms.prepare(stored, contexts, store=self.store) as ready:
            uid = ready.SOPInstanceUID or SOPInstanceUID
            boundary = secrets.token_hex(24)
            start, end = _around(boundary, stored, ready.context.TransferSyntaxUID, uid)
            counted = _Counted()
            answer = self._connection.request(
                "POST",
                "/studies",
                headers=[
                    ("Content-Type", f'multipart/related; type="{_DICOM}"; boundary={boundary}')
                ],
                body=_joined(start, counted.through(iter(ready.chunks)), end),
                size=None if ready.size is None else len(start) + ready.size + len(end),
            )
        return _read(answer, uid), counted.bytes


def _around(boundary: str, stored: StoredObject, syntax: str, uid: str) -> tuple[bytes, bytes]:
    """What goes before and after the data set: the part's head with the file meta, and the end."""
    meta = FileMeta(
        MediaStorageSOPClassUID=stored.SOPClassUID,
        MediaStorageSOPInstanceUID=uid,
        TransferSyntaxUID=syntax,
        calling_ae="",
        receiving_ae="",
        partition="",
    )
    # The file says its syntax: Orthanc drops parts whose type has more to it, and answers 200.
    head = f"--{boundary}\r\nContent-Type: {_DICOM}\r\n\r\n"
    return head.encode() + encode_file_meta(meta), f"\r\n--{boundary}--\r\n".encode()


class _Counted:
    """How many bytes of the data set were taken."""

    def __init__(self) -> None:
        self.bytes = 0

    def through(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.bytes += len(chunk)
            yield chunk


def _joined(start: bytes, chunks: Iterator[bytes], end: bytes) -> Iterator[bytes]:
    yield start
    yield from chunks
    yield end


def _read(answer: WebAnswer, SOPInstanceUID: str) -> StowAnswer:
    """What the answer says of the instance. Raises `NobodyThere` if it says nothing of it."""
    document: object = None
    if "json" in answer.content_type:
        try:
            document = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            document = None
    read = read_stow_answer(answer.status, document, SOPInstanceUID)
    if read.scope is AnswerScope.SERVER:
        reason = f"the destination answered with {read.reason}"
        raise NobodyThere(reason, wait=answer.retry_after if read.overloaded else None)
    return read
