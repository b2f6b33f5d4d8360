"""Makes a stored instance ready to be sent: as it is stored, else in a syntax that the peer takes.

Stored bytes first; else re-encoded while they stream; compressed pixels that the peer takes in no
form are decoded in a process of its own. What cannot be sent whole is not sent at all.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from gantry_archive.decoder_process import (
    LARGEST_OBJECT,
    DecoderHangs,
    copy_chunks,
    run_decoder,
)
from gantry_archive.outgoing import Outgoing, outgoing
from gantry_dimse.proposals import NegotiatedContext, NegotiatedContexts
from gantry_domain.errors import PermanentError, UnreadableObject
from gantry_domain.file_meta import parse_file_meta
from gantry_domain.implicit import implicit_little_endian
from gantry_domain.reencode import explicit_little_endian
from gantry_domain.sources import WINDOW, Fetch
from gantry_domain.transfer_syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
    PixelEncoding,
)
from gantry_stores.index.stored_object import StoredObject
from gantry_stores.objects import ObjectNotFound, ObjectStore

_SECONDS = 300.0


class NotSendable(PermanentError):
    """An instance that this peer cannot be sent; the text says why."""


class ClassNotAccepted(NotSendable):
    """An instance of an SOP class that this peer does not accept."""

    def __init__(self, SOPClassUID: str) -> None:
        super().__init__(f"the destination does not accept SOP class {SOPClassUID}")


class Withheld(NotSendable):
    """An instance that this peer must not be sent."""


def why_unsent(error: Exception | None) -> str:
    """Why an instance was not sent, in one line without patient data."""
    if isinstance(error, UnreadableObject):
        return f"the stored object cannot be read or converted: {error.reason}"
    if isinstance(error, ObjectNotFound):
        return "no longer in the object store"
    return str(error)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The context in which an instance is sent, and its data set in the context's syntax.

    `size`: the bytes of the data set, where they are known before. `SOPInstanceUID`: under which it
    is sent; None: its own.
    """

    context: NegotiatedContext
    chunks: Iterable[bytes]
    size: int | None = None
    SOPInstanceUID: str | None = None


class Prepare(Protocol):
    """Makes instances ready: whole, or without their bulk data."""

    def __call__(
        self, stored: StoredObject, contexts: NegotiatedContexts, *, store: ObjectStore
    ) -> AbstractContextManager[Prepared]:
        """See `prepared`."""


@contextmanager
def prepared(
    stored: StoredObject, contexts: NegotiatedContexts, *, store: ObjectStore
) -> Iterator[Prepared]:
    """The instance as this peer takes it, to be sent within the `with` block.

    Raises `NotSendable`, `ObjectNotFound`, or a `TransientError`; so may the chunks, with
    `UnreadableObject`, which is permanent.
    """
    with prepared_from(partial(outgoing, stored, store=store), stored, contexts) as ready:
        yield ready


@contextmanager
def prepared_from(
    find: Callable[[], Outgoing], stored: StoredObject, contexts: NegotiatedContexts
) -> Iterator[Prepared]:
    """As `prepared`, of what `find` gives; of `stored` its class and syntax count."""
    as_stored = contexts.accepts(stored.SOPClassUID, stored.TransferSyntaxUID)
    if as_stored is not None:
        source = find()
        chunks = source.chunks(source.dataset_offset)
        size = source.size - source.dataset_offset
        yield Prepared(as_stored, _whole(chunks, size), size)
        return
    context = contexts.fallback(stored.SOPClassUID)
    if context is None:
        raise _no_context(stored, contexts)
    syntax = TRANSFER_SYNTAXES.get(stored.TransferSyntaxUID)
    if syntax is None or syntax.pixels is PixelEncoding.REFERENCED:
        raise NotSendable(
            f"stored in {stored.TransferSyntaxUID}, which cannot be converted to what it accepts"
        )
    source = find()
    if not syntax.encapsulated:
        yield Prepared(context, _reencoded(source.read, source.size, stored, context))
        return
    with tempfile.TemporaryDirectory(prefix="gantry-decode-") as folder:
        decoded = _decode(stored, source, folder=Path(folder))
        with decoded.open("rb") as file:

            def fetch_decoded(offset: int, length: int) -> bytes:
                return os.pread(file.fileno(), length, offset)

            parsed = parse_file_meta(fetch_decoded(0, WINDOW))
            native = StoredObject(
                object_id=stored.object_id,
                SOPClassUID=stored.SOPClassUID,
                TransferSyntaxUID=EXPLICIT_VR_LITTLE_ENDIAN,
                dataset_offset=parsed.dataset_offset,
                size=decoded.stat().st_size,
            )
            yield Prepared(context, _reencoded(fetch_decoded, native.size, native, context))


@contextmanager
def prepared_without_bulk_data(
    stored: StoredObject, contexts: NegotiatedContexts, *, store: ObjectStore
) -> Iterator[Prepared]:
    """As `prepared`, but for what PS3.4 Z.1.3 leaves out: so nothing has to be decoded."""
    syntax = TRANSFER_SYNTAXES.get(stored.TransferSyntaxUID)
    context = contexts.fallback(stored.SOPClassUID)
    if context is None and syntax is not None and syntax.encapsulated:
        # Around the pixels such a data set is in Explicit VR Little Endian (PS3.5 A.4).
        context = contexts.accepts(stored.SOPClassUID, stored.TransferSyntaxUID)
    if context is None:
        raise _no_context(stored, contexts)
    source = outgoing(stored, store=store)
    encoded = _reencoded(source.read, source.size, stored, context, bulk_data=False)
    yield Prepared(context, encoded)


def _whole(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The chunks, if they have this size together; else the last of them is never taken as such."""
    for chunk in chunks:
        size -= len(chunk)
        yield chunk
    if size:
        raise UnreadableObject("size_changed")


def _no_context(stored: StoredObject, contexts: NegotiatedContexts) -> NotSendable:
    if any(context.SOPClassUID == stored.SOPClassUID for context in contexts.accepted):
        return NotSendable(
            f"the destination accepts {stored.SOPClassUID} in no transfer syntax that fits"
        )
    return ClassNotAccepted(stored.SOPClassUID)


def _reencoded(
    fetch: Fetch,
    size: int,
    stored: StoredObject,
    context: NegotiatedContext,
    *,
    bulk_data: bool = True,
) -> Iterator[bytes]:
    encode = (
        implicit_little_endian
        if context.TransferSyntaxUID == IMPLICIT_VR_LITTLE_ENDIAN
        else explicit_little_endian
    )
    return encode(
        fetch,
        size=size,
        dataset_offset=stored.dataset_offset,
        transfer_syntax=stored.TransferSyntaxUID,
        bulk_data=bulk_data,
    )


def _decode(stored: StoredObject, source: Outgoing, *, folder: Path) -> Path:
    """The file with native pixels."""
    if stored.size > LARGEST_OBJECT:
        raise NotSendable(f"compressed in {stored.TransferSyntaxUID} and too large to be decoded")
    file = copy_chunks(source.chunks(), folder / "stored.dcm")
    target = folder / "native.dcm"
    try:
        status = run_decoder("gantry_archive.decompressor", file, target, seconds=_SECONDS)
    except DecoderHangs as error:
        raise NotSendable(f"compressed in {stored.TransferSyntaxUID}; decoding hangs") from error
    if status:
        raise NotSendable(
            f"compressed in {stored.TransferSyntaxUID}, which cannot be decoded for a destination "
            "that accepts no compressed form of it"
        )
    return target
