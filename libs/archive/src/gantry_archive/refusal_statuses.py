"""What a refusal is called in DICOM: one status for each, whatever door the object came through."""

from collections.abc import Mapping

from gantry_archive.staging import Refusal
from gantry_domain.statuses import (
    CANNOT_UNDERSTAND,
    DATA_SET_DOES_NOT_MATCH_SOP_CLASS,
    OBJECT_TOO_LARGE,
    OUT_OF_RESOURCES,
    SOP_CLASS_NOT_SUPPORTED,
    TOO_MANY_IMAGES,
    Status,
)

STATUSES: Mapping[Refusal, Status] = {
    Refusal.MISMATCH: DATA_SET_DOES_NOT_MATCH_SOP_CLASS,
    Refusal.SOP_CLASS: SOP_CLASS_NOT_SUPPORTED,
    Refusal.MISSING_UID: CANNOT_UNDERSTAND,
    Refusal.UNREADABLE: CANNOT_UNDERSTAND,
    Refusal.TOO_LARGE: OBJECT_TOO_LARGE,
    Refusal.TOO_MANY_IMAGES: TOO_MANY_IMAGES,
    Refusal.OVER_QUOTA: OUT_OF_RESOURCES,
    Refusal.STORE_FULL: OUT_OF_RESOURCES,
    Refusal.STORE_AWAY: OUT_OF_RESOURCES,
}
