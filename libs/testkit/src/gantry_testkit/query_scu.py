"""Workstations that query: pynetdicom, which decodes each answer, and one that counts them."""

import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pynetdicom import build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from gantry_dimse.command import C_FIND_RQ, DATA_SET, NO_DATA_SET
from gantry_dimse.command_sets import (
    AFFECTED_SOP_CLASS_UID,
    COMMAND_DATA_SET_TYPE,
    COMMAND_FIELD,
    MESSAGE_ID,
    PRIORITY,
    PRIORITY_MEDIUM,
    STATUS,
    encode_command_set,
    number,
    read_command_set,
    ui,
    us,
)
from gantry_dimse.contexts import MESSAGE_SYNTAXES
from gantry_dimse.pdu import (
    A_RELEASE_RQ,
    COMMAND_FRAGMENT,
    HEADER,
    P_DATA_TF,
    PDV_HEADER,
    encode_command,
    encode_data_set,
)
from gantry_dimse.proposals import ProposedContext
from gantry_dimse.requesting import Timeouts, request_association
from gantry_domain.information_models import STUDY_ROOT_FIND
from gantry_domain.sop_classes import VERIFICATION
from gantry_domain.transfer_syntaxes import IMPLICIT_VR_LITTLE_ENDIAN
from gantry_testkit.peer_ae import PeerAE

Address = tuple[str, int]


def identifier(level: str, **values: object) -> Dataset:
    """An identifier with these attributes by keyword."""
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def encoded(ds: Dataset) -> bytes:
    """A data set in Implicit VR Little Endian."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = True, True
    write_dataset(buffer, ds)
    content: bytes = buffer.getvalue()
    return content


def _no_delay(event: evt.Event) -> None:
    # pynetdicom leaves Nagle's algorithm on: 44 ms for each message
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@contextmanager
def associated(
    address: Address,
    *,
    calling: str = "WS1",
    called: str = "GANTRY",
    syntaxes: Sequence[str] = MESSAGE_SYNTAXES,
    max_pdu: int = 16384,
    contexts: Sequence[PresentationContext] | None = None,
    ext_neg: Sequence[object] = (),
    handlers: Sequence[tuple[object, ...]] = (),
) -> Iterator[Association]:
    """pynetdicom's association, established or not; released in the end.

    `contexts`: in place of those of C-FIND in the Study Root in `syntaxes`.
    """
    ae = PeerAE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
    assoc = ae.associate(
        *address,
        contexts=[
            *(contexts or [build_context(STUDY_ROOT_FIND, list(syntaxes))]),
            build_context(VERIFICATION),
        ],
        ae_title=called,
        evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay), *handlers],
        ext_neg=list(ext_neg),
        max_pdu=max_pdu,
    )
    try:
        yield assoc
    finally:
        if assoc.is_established:
            assoc.release()


def answers(
    assoc: Association, ds: Dataset, model: str = STUDY_ROOT_FIND
) -> tuple[list[Dataset], list[Dataset]]:
    """The statuses and the identifiers, decoded, that answer one request."""
    statuses, found = [], []
    for status, match in assoc.send_c_find(ds, model):
        assert "Status" in status, "the association broke"
        statuses.append(status)
        if match is not None:
            match.decode()
            found.append(match)
    return statuses, found


def count_answers(
    address: Address,
    ds: Dataset,
    *,
    requests: int = 1,
    called: str = "GANTRY",
    patience: float = 60.0,
) -> tuple[Counter[int], float]:
    """How often each status came in answer to `requests` on one association, and in how long.

    Decodes nothing, and so is hardly ever what limits the server. Waits `patience` for each answer.
    Seconds.
    """
    requested = request_association(
        host=address[0],
        port=address[1],
        calling_ae="COUNTER",
        called_ae=called,
        contexts=[ProposedContext(STUDY_ROOT_FIND, (IMPLICIT_VR_LITTLE_ENDIAN,))],
        timeouts=Timeouts(),
    )
    wire, maximum = requested.wire, requested.peer_maximum
    (context,) = requested.contexts.accepted
    content = encoded(ds)
    counted: Counter[int] = Counter()
    begun = time.perf_counter()
    for message_id in range(1, requests + 1):
        command = encode_command_set(
            {
                AFFECTED_SOP_CLASS_UID: ui(STUDY_ROOT_FIND),
                COMMAND_FIELD: us(C_FIND_RQ),
                MESSAGE_ID: us(message_id),
                PRIORITY: us(PRIORITY_MEDIUM),
                COMMAND_DATA_SET_TYPE: us(DATA_SET),
            }
        )
        wire.send(
            [
                encode_command(context.id, command, maximum),
                encode_data_set(context.id, content, maximum),
            ]
        )
        last, status, final = b"", 0, False
        while True:
            pdu = wire.receive(time.monotonic() + patience, patience, "answer")
            assert pdu.type == P_DATA_TF, "the association broke"
            if not pdu.body[PDV_HEADER.size - 1] & COMMAND_FRAGMENT:
                continue
            if pdu.body != last:  # pending answers are all alike
                last = pdu.body
                elements = read_command_set(pdu.body[PDV_HEADER.size :])
                status = number(elements, STATUS)
                final = number(elements, COMMAND_DATA_SET_TYPE) == NO_DATA_SET
            counted[status] += 1
            if final:
                break
    seconds = time.perf_counter() - begun
    wire.send([HEADER.pack(A_RELEASE_RQ, 4) + bytes(4)])
    wire.receive(time.monotonic() + patience, patience, "release the association")
    wire.close()
    return counted, seconds


class Retrieved:
    """The responses to one C-MOVE or C-GET, as pynetdicom hands them out."""

    def __init__(self, responses: Sequence[tuple[Dataset, Dataset | None]]) -> None:
        self.statuses = [status for status, _ in responses]
        self.final, self.identifier = responses[-1]
        assert "Status" in self.final, "the association broke"
        self.status: int = self.final.Status

    @property
    def counts(self) -> tuple[int, int, int]:
        """Completed, failed, warning."""
        return (
            self.final.NumberOfCompletedSuboperations,
            self.final.NumberOfFailedSuboperations,
            self.final.NumberOfWarningSuboperations,
        )

    @property
    def failed_uids(self) -> list[str]:
        """The Failed SOP Instance UID List (0008,0058); none where there is no identifier."""
        if self.identifier is None:
            return []
        found = self.identifier.FailedSOPInstanceUIDList
        return [found] if isinstance(found, str) else list(found)
