"""Reads the A-ASSOCIATE-RQ of a new connection (PS3.8 9.3.2) and makes it fit for pynetdicom.

offset 0       6          8     10          26           42        74
| PDU header | version 2 | 0 2 | called 16 | calling 16 | 0 32 | items ...
item      | type 1 | 0 1 | length 2 | ...
"""

import time
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct

from gantry_dimse.connection import Connection, ConnectionLost
from gantry_dimse.observer import Fault
from gantry_dimse.pdu import A_ASSOCIATE_RQ, HEADER
from gantry_dimse.user_identity import UserIdentity, parse_user_identity

_VERSION = slice(6, 8)
_CALLED = slice(10, 26)
_CALLING = slice(26, 42)
_ITEMS = 74
_ITEM = Struct(">BxH")

# 128 contexts with all transfer syntaxes that exist are about 600 kB.
_LONGEST_REQUEST = 1 << 20
_PIECE = 64 * 1024
_MOST_CONTEXTS = 128  # odd numbers from 1 to 255 (PS3.8 9.3.2.2)

_APPLICATION_CONTEXT = 0x10
_PRESENTATION_CONTEXT = 0x20
_CONTEXT_HEAD = 4  # its id, and three reserved bytes
_ABSTRACT_SYNTAX = 0x30
_USER_INFORMATION = 0x50

# Sub-items of the user information (PS3.7 Annex D.3.3) that pynetdicom answers. Others are left
# out: the user identity (0x58), which is checked here; asynchronous operations (0x53), for some
# devices break the connection when they are answered; common extended negotiation (0x57), which has
# no answer; and what the standard does not know, for unknown items shall be ignored (PS3.8 9.3.1).
_USER_ITEMS = frozenset({0x51, 0x52, 0x54, 0x55, 0x56})
_USER_IDENTITY = 0x58


class NoRequest(Exception):
    """The connection brought no request for an association."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """A request as it came: the titles without padding, and the PDU."""

    called_ae: str
    calling_ae: str
    application_context: str
    encoded: bytes
    abstract_syntaxes: frozenset[str] = frozenset()
    """Those that are proposed."""
    protocol_version: int = 1
    user_identity: UserIdentity | None = None


class UnparseableRequest(Exception):
    """An A-ASSOCIATE-RQ that cannot be read."""


def read_request(connection: Connection, *, timeout: float) -> bytes:
    """The whole A-ASSOCIATE-RQ PDU; it must be complete `timeout` seconds from now.

    Raises `NoRequest`.
    """
    deadline = time.monotonic() + timeout
    buffer = bytearray(_PIECE)
    view = memoryview(buffer)
    received = bytearray()
    wanted = HEADER.size
    while len(received) < wanted:
        if time.monotonic() >= deadline:
            raise NoRequest(Fault.SILENT)
        try:
            # Never more than the request: what follows it belongs to the association.
            size = connection.receive_into(
                view[: min(_PIECE, wanted - len(received))], more_expected=False
            )
        except ConnectionLost:
            raise NoRequest(Fault.LOST) from None
        received += view[:size]
        if wanted == HEADER.size and len(received) == wanted:
            pdu_type, length = HEADER.unpack(received)
            if pdu_type != A_ASSOCIATE_RQ or length > _LONGEST_REQUEST:
                raise NoRequest(Fault.NOT_DICOM)
            wanted += length
    return bytes(received)


def parse_request(encoded: bytes) -> AssociateRequest:
    """Find the titles and rewrite what real devices send and pynetdicom would stumble over.

    Raises `UnparseableRequest`.
    """
    if len(encoded) < _ITEMS:
        raise UnparseableRequest("the request is too short")
    application_context = ""
    identity: UserIdentity | None = None
    kept = []
    proposed = set()
    for item_type, body in _items(encoded[_ITEMS:]):
        if item_type == _APPLICATION_CONTEXT:
            application_context = body.strip(b"\0 ").decode("latin-1")
        if item_type == _PRESENTATION_CONTEXT:
            proposed.add(_abstract_syntax(body))
        if item_type == _USER_INFORMATION:
            identity = _identity(body) or identity
            body = b"".join(  # noqa: PLW2901 - the item is rewritten
                _ITEM.pack(sub_type, len(sub_body)) + sub_body
                for sub_type, sub_body in _items(body)
                if sub_type in _USER_ITEMS
            )
        if item_type in (_APPLICATION_CONTEXT, _PRESENTATION_CONTEXT, _USER_INFORMATION):
            kept.append(_ITEM.pack(item_type, len(body)) + body)
    if sum(item[0] == _PRESENTATION_CONTEXT for item in kept) > _MOST_CONTEXTS:
        raise UnparseableRequest("more presentation contexts than there are ids")
    items = b"".join(kept)
    called, calling = _title(encoded[_CALLED]), _title(encoded[_CALLING])
    head = b"".join(
        (
            HEADER.pack(A_ASSOCIATE_RQ, _ITEMS - HEADER.size + len(items)),
            encoded[HEADER.size : _CALLED.start],
            called.ljust(16),
            calling.ljust(16),
            encoded[_CALLING.stop : _ITEMS],
        )
    )
    return AssociateRequest(
        called_ae=called.decode(),
        calling_ae=calling.decode(),
        application_context=application_context,
        encoded=head + items,
        abstract_syntaxes=frozenset(proposed),
        user_identity=identity,
        protocol_version=int.from_bytes(encoded[_VERSION]),
    )


def _abstract_syntax(context: bytes) -> str:
    """The abstract syntax of a presentation context item (PS3.8 9.3.2.2).

    Empty where there is none: whether the request is broken then, the negotiation says.
    """
    with suppress(UnparseableRequest):
        for sub_type, body in _items(context[_CONTEXT_HEAD:]):
            if sub_type == _ABSTRACT_SYNTAX:
                return body.strip(b"\0 ").decode("latin-1")
    return ""


def _identity(user_information: bytes) -> UserIdentity | None:
    for sub_type, body in _items(user_information):
        if sub_type == _USER_IDENTITY:
            try:
                return parse_user_identity(body)
            except ValueError as error:
                raise UnparseableRequest(str(error)) from error
    return None


def _items(encoded: bytes) -> list[tuple[int, bytes]]:
    found = []
    offset = 0
    while offset < len(encoded):
        if offset + _ITEM.size > len(encoded):
            raise UnparseableRequest("the request ends inside of an item")
        item_type, length = _ITEM.unpack_from(encoded, offset)
        offset += _ITEM.size
        if offset + length > len(encoded):
            raise UnparseableRequest("an item is longer than the request")
        found.append((item_type, encoded[offset : offset + length]))
        offset += length
    return found


def _title(field: bytes) -> bytes:
    """An AE title without its padding; NUL padding is seen, and characters no title may have."""
    title = field.split(b"\0")[0].strip(b" ")
    return bytes(c if 0x20 <= c < 0x7F and c != 0x5C else 0x3F for c in title)
