"""DIMSE statuses and association rejections by name, each with its clause: the one table."""

from typing import NamedTuple


class Status(NamedTuple):
    """A DIMSE status: its code, its name in the standard, and the clause that defines it."""

    code: int
    name: str
    clause: str


SUCCESS = Status(0x0000, "Success", "PS3.7 Annex C.1.1")
PENDING = Status(0xFF00, "Pending", "PS3.4 C.4.1.1.4")
PENDING_WARNING = Status(0xFF01, "Pending, optional keys not supported", "PS3.4 C.4.1.1.4")
CANCEL = Status(0xFE00, "Matching terminated due to cancel", "PS3.4 C.4.1.1.4")

# C-STORE, PS3.4 Table B.2-1.
OUT_OF_RESOURCES = Status(0xA700, "Refused: Out of resources", "PS3.4 Table B.2-1")
DATA_SET_DOES_NOT_MATCH_SOP_CLASS = Status(
    0xA900, "Error: Data Set does not match SOP Class", "PS3.4 Table B.2-1"
)
CANNOT_UNDERSTAND = Status(0xC000, "Error: Cannot understand", "PS3.4 Table B.2-1")
# Our own in the range "Cannot understand": A7xx would make senders try again for ever.
OBJECT_TOO_LARGE = Status(0xC0F0, "Error: Object larger than configured", "PS3.4 Table B.2-1")
TOO_MANY_IMAGES = Status(0xC0F1, "Error: More images than configured", "PS3.4 Table B.2-1")

# STOW-RS, PS3.18 Annex I.2.2, where there is none of C-STORE that says the same.
COERCION_OF_DATA_ELEMENTS = Status(
    0xB000, "Warning: Coercion of data elements", "PS3.18 Table I.2-1"
)
TRANSFER_SYNTAX_NOT_SUPPORTED = Status(
    0xC122, "Referenced Transfer Syntax not supported", "PS3.18 Table I.2-2"
)

# C-FIND, PS3.4 Table C.4-1.
OUT_OF_RESOURCES_TO_FIND = Status(0xA700, "Refused: Out of resources", "PS3.4 C.4.1.1.4")
IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS = Status(
    0xA900, "Error: Data Set does not match SOP Class", "PS3.4 C.4.1.1.4"
)
UNABLE_TO_PROCESS = Status(0xC001, "Failed: Unable to process", "PS3.4 C.4.1.1.4")

# C-MOVE and C-GET, PS3.4 Tables C.4-2 and C.4-3.
OUT_OF_RESOURCES_TO_COUNT = Status(
    0xA701, "Refused: Out of resources, unable to calculate number of matches", "PS3.4 C.4.2.1.5"
)
OUT_OF_RESOURCES_TO_SEND = Status(
    0xA702, "Refused: Out of resources, unable to perform sub-operations", "PS3.4 C.4.2.1.5"
)
MOVE_DESTINATION_UNKNOWN = Status(0xA801, "Refused: Move destination unknown", "PS3.4 C.4.2.1.5")
SOME_SUB_OPERATIONS_FAILED = Status(
    0xB000, "Sub-operations complete, one or more failures or warnings", "PS3.4 C.4.2.1.5"
)
SUB_OPERATIONS_CANCELLED = Status(
    0xFE00, "Sub-operations terminated due to cancel", "PS3.4 C.4.2.1.5"
)

# N-CREATE and N-SET, PS3.7 10.1.5 and 10.1.3, and of a performed procedure step PS3.4 F.7.2.2.
INVALID_ATTRIBUTE_VALUE = Status(0x0106, "Invalid attribute value", "PS3.7 Annex C.5.11")
PROCESSING_FAILURE = Status(0x0110, "Processing failure", "PS3.7 Annex C.5.19")
NO_SUCH_OBJECT_INSTANCE = Status(0x0112, "No such object instance", "PS3.7 Annex C.5.14")
MISSING_ATTRIBUTE = Status(0x0120, "Missing attribute", "PS3.7 Annex C.5.15")
MISSING_ATTRIBUTE_VALUE = Status(0x0121, "Missing attribute value", "PS3.7 Annex C.5.16")
RESOURCE_LIMITATION = Status(0x0213, "Resource limitation", "PS3.7 Annex C.5.24")
PERFORMED_STEP_OVER = 0xA710
"""Error ID (0000,0903) of 0110: the object may no longer be updated (PS3.4 F.7.2.2)."""

# N-ACTION and N-EVENT-REPORT, PS3.7 10.1.4 and 10.1.1.
NO_SUCH_EVENT_TYPE = Status(0x0113, "No such event type", "PS3.7 Annex C.5.13")
INVALID_ARGUMENT_VALUE = Status(0x0115, "Invalid argument value", "PS3.7 Annex C.5.10")
NO_SUCH_ACTION = Status(0x0123, "No such action", "PS3.7 Annex C.5.9")

# General, PS3.7 Annex C.
DUPLICATE_SOP_INSTANCE = Status(0x0111, "Duplicate SOP Instance", "PS3.7 Annex C.5.6")
SOP_CLASS_NOT_SUPPORTED = Status(0x0122, "Refused: SOP Class not supported", "PS3.7 C.5.6")
NOT_AUTHORIZED = Status(0x0124, "Refused: Not authorized", "PS3.7 C.5.20")
UNRECOGNIZED_OPERATION = Status(0x0211, "Unrecognized operation", "PS3.7 C.5.25")


class Rejection(NamedTuple):
    """An A-ASSOCIATE-RJ: result, source and reason (PS3.8 Table 9-21), and its metric label."""

    result: int
    source: int
    reason: int
    label: str


APPLICATION_CONTEXT_NOT_SUPPORTED = Rejection(1, 1, 2, "application_context")
CALLING_AE_NOT_RECOGNIZED = Rejection(1, 1, 3, "calling_ae")
CALLED_AE_NOT_RECOGNIZED = Rejection(1, 1, 7, "called_ae")
UNPARSEABLE_REQUEST = Rejection(1, 2, 1, "unparseable")
PROTOCOL_VERSION_NOT_SUPPORTED = Rejection(1, 2, 2, "protocol_version")
USER_IDENTITY_NOT_VERIFIED = Rejection(2, 2, 1, "user_identity")
TEMPORARY_CONGESTION = Rejection(2, 3, 1, "congestion")
SERVICE_AWAY = Rejection(2, 3, 1, "service_away")
LOCAL_LIMIT_EXCEEDED = Rejection(2, 3, 2, "limit")
