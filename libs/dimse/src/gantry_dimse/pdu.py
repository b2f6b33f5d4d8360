"""The upper layer's protocol data units that we read and write ourselves (PS3.8 9.3).

PDU          | type 1 | 0 1 | length 4, big endian | ...
P-DATA-TF    | 04     | 0   | length               | PDV | PDV | ...
PDV          | length 4 | presentation context id 1 | control header 1 | fragment ...
"""

from struct import Struct

A_ASSOCIATE_RQ = 0x01
A_ASSOCIATE_AC = 0x02
A_ASSOCIATE_RJ = 0x03
P_DATA_TF = 0x04
A_RELEASE_RQ = 0x05
A_RELEASE_RP = 0x06
A_ABORT = 0x07
PDU_TYPES = range(A_ASSOCIATE_RQ, A_ABORT + 1)

HEADER = Struct(">BxL")
PDV_HEADER = Struct(">LBB")

# The control header of a PDV (PS3.8 Annex E.2).
COMMAND_FRAGMENT = 0x01
LAST_FRAGMENT = 0x02

# The body of A-RELEASE and of A-ABORT has four bytes (PS3.8 9.3.6, 9.3.8).
SHORT_BODY = 4

# Sources of an A-ABORT (PS3.8 Table 9-26).
SERVICE_USER = 0
SERVICE_PROVIDER = 2

# Reasons of an A-P-ABORT (PS3.8 Table 9-26).
REASON_NOT_SPECIFIED = 0
UNRECOGNIZED_PDU = 1
UNEXPECTED_PDU = 2
INVALID_PDU_PARAMETER = 6

RELEASE_RESPONSE = HEADER.pack(A_RELEASE_RP, SHORT_BODY) + bytes(SHORT_BODY)

# A peer that announces less gets no smaller fragments than this: there must be some progress.
_LEAST_FRAGMENT = 16


class ProtocolError(Exception):
    """The peer broke the protocol: the association is aborted with `reason` (PS3.8 Table 9-26)."""

    def __init__(self, reason: int, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def encode_abort(source: int, reason: int = REASON_NOT_SPECIFIED) -> bytes:
    """An A-ABORT (PS3.8 9.3.8)."""
    return HEADER.pack(A_ABORT, SHORT_BODY) + bytes((0, 0, source, reason))


def encode_reject(result: int, source: int, reason: int) -> bytes:
    """An A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return HEADER.pack(A_ASSOCIATE_RJ, SHORT_BODY) + bytes((0, result, source, reason))


def encode_command(context_id: int, command: bytes, peer_max_pdu: int) -> bytes:
    """A command set as P-DATA-TF PDUs, none longer than the peer announced; 0 is unlimited."""
    return _encode_fragments(context_id, command, peer_max_pdu, COMMAND_FRAGMENT)


def encode_data_set(context_id: int, data_set: bytes, peer_max_pdu: int) -> bytes:
    """A data set in memory likewise."""
    return _encode_fragments(context_id, data_set, peer_max_pdu, 0)


def _encode_fragments(context_id: int, encoded: bytes, peer_max_pdu: int, control: int) -> bytes:
    most = len(encoded)
    if peer_max_pdu:
        most = max(peer_max_pdu - PDV_HEADER.size, _LEAST_FRAGMENT)
    if len(encoded) <= most:
        return b"".join(
            (
                HEADER.pack(P_DATA_TF, PDV_HEADER.size + len(encoded)),
                PDV_HEADER.pack(len(encoded) + 2, context_id, control | LAST_FRAGMENT),
                encoded,
            )
        )
    pdus = []
    for offset in range(0, len(encoded), most):
        fragment = encoded[offset : offset + most]
        last = LAST_FRAGMENT if offset + most >= len(encoded) else 0
        pdus += [
            HEADER.pack(P_DATA_TF, PDV_HEADER.size + len(fragment)),
            PDV_HEADER.pack(len(fragment) + 2, context_id, control | last),
            fragment,
        ]
    return b"".join(pdus)
