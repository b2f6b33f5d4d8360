"""A peer that does what it should not, byte by byte, and the SCU that meets it."""

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    MaximumLengthNotification,
)

from gantry_dimse import command_sets as cs
from gantry_dimse.proposals import ProposedContext
from gantry_dimse.requesting import Timeouts
from gantry_dimse.send import StorageAssociation
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN

CT = "1.2.840.10008.5.1.4.1.1.2"
CONTEXT = ProposedContext(CT, (EXPLICIT_VR_LITTLE_ENDIAN,))
QUICK = Timeouts(connect=2.0, acse=0.5, dimse=0.5, network=0.5)


def receive(connection: socket.socket) -> tuple[int, bytes]:
    """One PDU: its type and the whole of it."""
    head = connection.recv(6, socket.MSG_WAITALL)
    kind, length = struct.unpack(">BxL", head)
    return kind, head + connection.recv(length, socket.MSG_WAITALL)


def accept(connection: socket.socket, *, maximum: int = 16384, window: int | None = None) -> int:
    """Read the A-ASSOCIATE-RQ and accept its first context.

    Returns the window of asynchronous operations that it asks for, 1 if it asks for none; `window`
    is granted.
    """
    kind, encoded = receive(connection)
    assert kind == 1
    request = A_ASSOCIATE_RQ()
    request.decode(encoded)
    primitive = request.to_primitive()
    asked = [
        item.maximum_number_operations_invoked
        for item in primitive.user_information
        if isinstance(item, AsynchronousOperationsWindowNegotiation)
    ]
    granted = []
    if window is not None:
        granted.append(AsynchronousOperationsWindowNegotiation())
        granted[0].maximum_number_operations_invoked = window
        granted[0].maximum_number_operations_performed = 1
    context = primitive.presentation_context_definition_list[0]
    context.result = 0
    context.transfer_syntax = context.transfer_syntax[:1]
    length = MaximumLengthNotification()
    length.maximum_length_received = maximum
    primitive.presentation_context_definition_list = []
    primitive.presentation_context_definition_results_list = [context]
    primitive.user_information = [
        item
        for item in primitive.user_information
        if type(item).__name__.startswith("Implementation")
    ] + [length, *granted]
    primitive.result = 0
    connection.sendall(A_ASSOCIATE_AC(primitive).encode())
    return asked[0] if asked else 1


def receive_store(connection: socket.socket) -> tuple[int, str]:
    """One C-STORE request, read to its end: its message's id and its SOP Instance UID."""
    elements: dict[int, bytes] = {}
    while True:
        kind, encoded = receive(connection)
        assert kind == 4, f"PDU {kind}"
        offset = 6
        while offset < len(encoded):
            length, _context, flags = struct.unpack_from(">LBB", encoded, offset)
            fragment = encoded[offset + 6 : offset + 4 + length]
            offset += 4 + length
            if flags & 1:
                elements = cs.read_command_set(fragment)
            elif flags & 2:
                uid = elements[cs.AFFECTED_SOP_INSTANCE_UID].rstrip(b"\0").decode()
                return cs.number(elements, cs.MESSAGE_ID), uid


def answer(status: int, message_id: int = 1, field: int = 0x8001) -> bytes:
    """A whole C-STORE response."""
    command = cs.encode_command_set(
        {
            cs.COMMAND_FIELD: cs.us(field),
            cs.MESSAGE_ID_BEING_RESPONDED_TO: cs.us(message_id),
            cs.COMMAND_DATA_SET_TYPE: cs.us(0x0101),
            cs.STATUS: cs.us(status),
        }
    )
    return struct.pack(">BxLLBB", 4, len(command) + 6, len(command) + 2, 1, 3) + command


ABORT = struct.pack(">BxLBBBB", 7, 4, 0, 0, 2, 6)


class HostilePeer:
    """Listens on loopback and does to each connection what it is told."""

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    self._behave(connection)

    def close(self) -> None:
        """Its connections end."""
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        assert not self._thread.is_alive()


Hostile = Callable[[Callable[[socket.socket], None]], HostilePeer]
"""Starts one."""


def associate(port: int, timeouts: Timeouts = QUICK) -> StorageAssociation:
    """Ask for an association in which CT images can be sent."""
    return StorageAssociation.open(
        host="127.0.0.1",
        port=port,
        calling_ae="GANTRY",
        called_ae="PEER",
        contexts=[CONTEXT],
        timeouts=timeouts,
    )
