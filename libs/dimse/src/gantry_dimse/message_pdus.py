"""Messages that we send as an SCU, as buffers of P-DATA-TF PDUs, without copies of the data set.

Each P-DATA-TF PDU has one PDV (PS3.8 9.3.5, Annex E):

    0    1   2          6            10      11        12
    | 04 | 0 | length   | PDV length | context | flags | fragment ...
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct

from gantry_dimse import command_sets as cs
from gantry_dimse import pdu
from gantry_dimse.command import C_STORE_RQ

LARGEST_PDU = 1 << 17
"""Bytes: what is sent to a peer without a limit. Larger ones are slower (docs/performance.md)."""

_P_DATA = Struct(">BBLLBB")

_BATCH = 1 << 20  # bytes handed to the system in one call

_SMALLEST_PDU = pdu.PDV_HEADER.size + 2


@dataclass(frozen=True, slots=True)
class MoveOriginator:
    """Whose C-MOVE request the instance is sent for (PS3.7 9.3.1.1)."""

    ae_title: str
    message_id: int


def encode_store_request(
    *,
    SOPClassUID: str,
    SOPInstanceUID: str,
    message_id: int,
    move_originator: MoveOriginator | None = None,
) -> bytes:
    """The command set of a C-STORE request (PS3.7 9.3.1.1)."""
    command = {
        cs.AFFECTED_SOP_CLASS_UID: cs.ui(SOPClassUID),
        cs.COMMAND_FIELD: cs.us(C_STORE_RQ),
        cs.MESSAGE_ID: cs.us(message_id),
        cs.PRIORITY: cs.us(cs.PRIORITY_MEDIUM),
        cs.COMMAND_DATA_SET_TYPE: cs.us(cs.DATA_SET),
        cs.AFFECTED_SOP_INSTANCE_UID: cs.ui(SOPInstanceUID),
    }
    if move_originator is not None:
        command[cs.MOVE_ORIGINATOR_AE] = cs.ae(move_originator.ae_title)
        command[cs.MOVE_ORIGINATOR_MESSAGE_ID] = cs.us(move_originator.message_id)
    return cs.encode_command_set(command)


def fragment_size(peer_maximum: int) -> int:
    """Bytes of data per PDV: even (PS3.8 Annex E.1), within what the peer takes; 0: no limit.

    Raises `ValueError` for a maximum that no data fit into.
    """
    limit = min(peer_maximum, LARGEST_PDU) if peer_maximum else LARGEST_PDU
    if limit < _SMALLEST_PDU:
        raise ValueError(f"a maximum PDU length of {peer_maximum} bytes")
    return (limit - pdu.PDV_HEADER.size) & ~1


@dataclass(frozen=True, slots=True)
class Batch:
    """Buffers to be sent in one go; `data` bytes of them are of the data set."""

    buffers: list[bytes | memoryview]
    data: int


def batches(
    context_id: int, command: bytes, chunks: Iterable[bytes | memoryview] | None, *, fragment: int
) -> Iterator[Batch]:
    """The PDUs of one message, about a mebibyte at a time; `fragment` is of `fragment_size`."""
    batch: list[bytes | memoryview] = []
    size = data = 0
    for buffers, length, of_data in _pdus(context_id, command, chunks, fragment):
        batch += buffers
        size += length
        data += of_data
        if size >= _BATCH:
            yield Batch(batch, data)
            batch = []
            size = data = 0
    if batch:
        yield Batch(batch, data)


def _pdus(
    context_id: int, command: bytes, chunks: Iterable[bytes | memoryview] | None, fragment: int
) -> Iterator[tuple[list[bytes | memoryview], int, int]]:
    """PDU by PDU: buffers, how many bytes they hold, how many of them are of the data set."""
    for buffers, length, last in fragments([command], fragment):
        yield *p_data(buffers, length, context_id, pdu.COMMAND_FRAGMENT, last=last), 0
    if chunks is None:
        return
    for buffers, length, last in fragments(chunks, fragment):
        yield *p_data(buffers, length, context_id, 0, last=last), length


def fragments(
    chunks: Iterable[bytes | memoryview], size: int
) -> Iterator[tuple[list[bytes | memoryview], int, bool]]:
    """Cut and join the chunks to fragments of `size` (even) bytes, the last one shorter or equal.

    All have even lengths (PS3.8 Annex E.1): a data set of odd length gets a NUL at its end.

    :returns: buffers of one fragment, how many bytes they hold, whether it is the last.
    """
    pending: list[bytes | memoryview] = []
    length = 0
    for chunk in chunks:
        rest = memoryview(chunk)
        while length + len(rest) > size:
            cut = size - length
            if cut:
                pending.append(rest[:cut])
                rest = rest[cut:]
            # More follows, so that this fragment is not the last.
            yield pending, size, False
            pending = []
            length = 0
        if len(rest):
            pending.append(rest)
            length += len(rest)
    if length & 1:
        # dcmtk aborts on a fragment of odd length. Deflated data sets are padded so (PS3.5 A.5);
        # in others it is a byte behind the end of a data set that was broken before.
        pending.append(b"\0")
        length += 1
    yield pending, length, True


def p_data(
    buffers: list[bytes | memoryview], length: int, context_id: int, flags: int, *, last: bool
) -> tuple[list[bytes | memoryview], int]:
    """A PDU of one fragment: its buffers, and how many bytes they hold."""
    pdv = length + 2
    flags |= pdu.LAST_FRAGMENT if last else 0
    header = _P_DATA.pack(pdu.P_DATA_TF, 0, pdv + 4, pdv, context_id, flags)
    return [header, *buffers], length + len(header)
