"""What a SOP class or a transfer syntax is called, and which service a class belongs to."""

from enum import StrEnum

from gantry_domain.dictionary import UIDS
from gantry_domain.information_models import INFORMATION_MODELS, MODALITY_WORKLIST_FIND
from gantry_domain.sop_classes import STORAGE_CLASSES, VERIFICATION
from gantry_domain.transfer_syntaxes import TRANSFER_SYNTAXES

_PERFORMED_STEPS = "1.2.840.10008.3.1.2.3."
_COMMITMENT = "1.2.840.10008.1.20."
_PRINT = "1.2.840.10008.5.1.1."
_QUERY = frozenset(uid for model in INFORMATION_MODELS for uid in model.classes)


class Service(StrEnum):
    """The services of PS3.4, as far as statements speak of them."""

    VERIFICATION = "Verification"
    STORAGE = "Storage"
    QUERY_RETRIEVE = "Query/Retrieve"
    WORKLIST = "Modality Worklist"
    PERFORMED_STEP = "Modality Performed Procedure Step"
    COMMITMENT = "Storage Commitment"
    PRINT = "Print Management"
    OTHER = "Other"


def service_of(uid: str) -> Service:
    """The service that a SOP class belongs to."""
    if uid == VERIFICATION:
        return Service.VERIFICATION
    if uid in STORAGE_CLASSES:
        return Service.STORAGE
    if uid in _QUERY:
        return Service.QUERY_RETRIEVE
    if uid == MODALITY_WORKLIST_FIND:
        return Service.WORKLIST
    for beginning, service in (
        (_PERFORMED_STEPS, Service.PERFORMED_STEP),
        (_COMMITMENT, Service.COMMITMENT),
        (_PRINT, Service.PRINT),
    ):
        if uid.startswith(beginning):
            return service
    return Service.OTHER


def class_name(uid: str) -> str:
    """The name of a SOP class in PS3.6, or of a private one that is known; else its UID."""
    if uid in STORAGE_CLASSES:
        return STORAGE_CLASSES[uid].name
    return UIDS[uid][0].removesuffix(" SOP Class") if uid in UIDS else uid


def syntax_name(uid: str) -> str:
    """The name of a transfer syntax; else its UID."""
    if uid in TRANSFER_SYNTAXES:
        return TRANSFER_SYNTAXES[uid].name
    return UIDS[uid][0] if uid in UIDS else uid


def retired(uid: str) -> bool:
    """Whether PS3.6 has retired it."""
    return UIDS[uid][3] == "Retired" if uid in UIDS else False
