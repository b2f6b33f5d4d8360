"""Which SOP classes a destination may refuse while the images still count as delivered.

Those of objects that are not images: presentation states, reports, key objects, documents,
waveforms, raw data, objects of radiotherapy. What is an image is the standard's own grouping, the
types of directory records (PS3.3 F.4): all that has the type IMAGE, segmentations and parametric
maps among them. A class that the standard does not have may be of images, so it counts as such.
"""

import re

from gantry_domain.directory_records import IMAGE, record_type
from gantry_domain.private_sop_classes import PRIVATE_SOP_CLASSES
from gantry_domain.sop_classes import STORAGE_CLASSES, StorageClass
from gantry_domain.statuses import SOP_CLASS_NOT_SUPPORTED

# Of types of records that no DICOMDIR of ours has: RADIOTHERAPY, PLAN, PROTOCOL, ANNOTATION,
# MEASUREMENT, HANGING PROTOCOL, PALETTE, IMPLANT, INVENTORY; and the retired OVERLAY, CURVE,
# MODALITY LUT, VOI LUT and STORED PRINT.
_OTHER_TYPES = re.compile(
    r"\bRT\b|Radiation|Protocol|Annotation|Calculations|Palette|Implant|Inventory"
    r"|Standalone|Stored Print"
)


def _of_images(known: StorageClass) -> bool:
    if known.image or known.uid in PRIVATE_SOP_CLASSES:
        return True
    return record_type(known.uid) == IMAGE and not _OTHER_TYPES.search(known.name)


NOT_OF_IMAGES: frozenset[str] = frozenset(
    uid for uid, known in STORAGE_CLASSES.items() if not _of_images(known)
)


def class_not_taken(SOPClassUID: str, status: int | None) -> bool:
    """Whether an instance was refused for its class alone, and is no image.

    :param status: why it was refused; None: for another reason than a status.
    """
    return status == SOP_CLASS_NOT_SUPPORTED.code and SOPClassUID in NOT_OF_IMAGES
