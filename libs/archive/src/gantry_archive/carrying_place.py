"""Writes the items of a round as files into a folder or a bucket (PS3.10), one after the other.

Each is durable before it counts as delivered, and stands there whole or not at all. It is named
after the UIDs in what goes out, so that one that is sent again replaces itself.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from gantry_archive.carrying import NobodyThere, Pair, Round, RoundFailed, unsent
from gantry_archive.outbound import NotSendable
from gantry_archive.place_destinations import PlaceAway, PlaceDestination, at_place
from gantry_dimse.peer_errors import Interrupted
from gantry_domain.deliveries import ItemState
from gantry_domain.errors import TransientError, UnreadableObject
from gantry_domain.file_meta import FileMeta, encode_file_meta
from gantry_domain.file_names import instance_file_name
from gantry_domain.prefix import Identification, identify
from gantry_stores.index.delivery_leases import ItemOutcome
from gantry_stores.index.stored_object import StoredObject
from gantry_stores.objects import ObjectNotFound, ObjectStore

# The UIDs stand in the first few hundred bytes, but for what has much before them.
_LOOKED_AT = (64 << 10, 1 << 20, 16 << 20)


@dataclass(slots=True, kw_only=True)
class PlaceCarrier:
    """A `Carrier` to a folder or a bucket."""

    destination: PlaceDestination
    store: ObjectStore
    _ended: threading.Event = field(default_factory=threading.Event, init=False)

    def carry(self, pairs: Sequence[Pair], sending: Round) -> None:
        """See `Carrier`."""
        for pair in pairs:
            sending.check()
            self._send(pair, sending)

    def interrupt(self) -> None:
        """See `Carrier`."""
        self._ended.set()

    def close(self) -> None:
        """See `Carrier`."""

    def _send(self, pair: Pair, sending: Round) -> None:
        item, stored = pair
        started = time.monotonic()
        try:
            size = self._write(stored, item.SOPInstanceUID)
        except (NotSendable, ObjectNotFound, UnreadableObject) as error:
            sending.settle(item, unsent(error), seconds=time.monotonic() - started)
            return
        except PlaceAway as error:
            # It may be this instance alone that does not fit: others go before it next time.
            with suppress(RoundFailed):
                sending.settle(item, ItemOutcome(ItemState.FAILED, reason=str(error)))
            raise NobodyThere(str(error)) from error
        except Interrupted:
            raise
        except TransientError as error:
            raise RoundFailed(str(error)) from error
        sending.answers()
        outcome = ItemOutcome(ItemState.ACCEPTED, object_id=stored.object_id)
        sending.settle(item, outcome, size=size, seconds=time.monotonic() - started)

    def _write(self, stored: StoredObject, SOPInstanceUID: str) -> int:
        """Write one file; the bytes of its data set."""
        transforms = self.destination.transforms
        contexts = transforms.contexts_for(stored)
        with transforms.prepare(stored, contexts, store=self.store) as ready:
            syntax = ready.context.TransferSyntaxUID
            chunks = iter(ready.chunks)
            start, found = _beginning(chunks, syntax)
            # What goes out may be under other UIDs than what is stored.
            uid = found.SOPInstanceUID or SOPInstanceUID
            name = instance_file_name(
                found.StudyInstanceUID or "", found.SeriesInstanceUID or "", uid
            )
            meta = encode_file_meta(
                FileMeta(
                    MediaStorageSOPClassUID=found.SOPClassUID or stored.SOPClassUID,
                    MediaStorageSOPInstanceUID=uid,
                    TransferSyntaxUID=syntax,
                    calling_ae="",
                    receiving_ae="",
                    partition="",
                )
            )
            size = len(start)
            with at_place():
                writer = self.destination.place.store().create(name)
            try:
                with at_place():
                    writer.write([meta, start])
                self._paced(len(start))
                for chunk in chunks:
                    size += len(chunk)
                    with at_place():
                        writer.write([chunk])
                    self._paced(len(chunk))
                with at_place():
                    writer.commit()
            finally:
                writer.abort()
        return size

    def _paced(self, size: int) -> None:
        if self.destination.pacer is not None:
            self.destination.pacer.wait(size, self._ended.is_set)
        if self._ended.is_set():
            raise Interrupted


def _beginning(chunks: Iterator[bytes], syntax: str) -> tuple[bytes, Identification]:
    """The first bytes of a data set, as many as it takes to know who it is, and who it is."""
    held = bytearray()
    complete = False
    for most in _LOOKED_AT:
        while len(held) < most and not complete:
            chunk = next(chunks, None)
            complete = chunk is None
            held += chunk or b""
        found = identify(
            bytes(held[:most]), transfer_syntax=syntax, complete=complete and len(held) <= most
        )
        if found.StudyInstanceUID and found.SeriesInstanceUID and found.SOPInstanceUID:
            return bytes(held), found
    raise NotSendable("its UIDs are not found at its beginning, so no name can be made for it")
