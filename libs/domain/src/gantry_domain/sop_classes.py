"""The SOP classes that Gantry stores: the one table.

Every storage class that PS3.6 ever registered, retired and trial ones included, for old
modalities still send them and an archive that refuses them loses images; and the private ones that
devices are known to send.
"""

from dataclasses import dataclass

from gantry_domain.dictionary import UIDS
from gantry_domain.private_sop_classes import PRIVATE_SOP_CLASSES

VERIFICATION = "1.2.840.10008.1.1"

# Named "Storage" in PS3.6 but not composite objects: a file format, and workflow services.
_NOT_STORED = {
    "1.2.840.10008.1.3.10",  # Media Storage Directory Storage
    "1.2.840.10008.1.20.1",  # Storage Commitment Push Model
    "1.2.840.10008.1.20.2",  # Storage Commitment Pull Model
}

# Registered after the dictionary of the pydicom in use was made.
_NEWER = {
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.8": "Height Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.1": "Waveform Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.2": "Waveform Acquisition Presentation State Storage",
}


@dataclass(frozen=True, slots=True)
class StorageClass:
    """A composite storage SOP class (PS3.4 B.5); `image` where its instances are images."""

    uid: str
    name: str
    retired: bool

    @property
    def image(self) -> bool:
        """Whether an instance counts as an image of its study."""
        return "Image Storage" in self.name


def _table() -> dict[str, StorageClass]:
    table = {
        uid: StorageClass(uid, name.removesuffix(" SOP Class"), retired == "Retired")
        for uid, (name, kind, _info, retired, _keyword) in UIDS.items()
        if kind == "SOP Class" and "Storage" in name and uid not in _NOT_STORED
    }
    for uid, name in (_NEWER | PRIVATE_SOP_CLASSES).items():
        table.setdefault(uid, StorageClass(uid, name, False))
    return dict(sorted(table.items()))


STORAGE_CLASSES: dict[str, StorageClass] = _table()
