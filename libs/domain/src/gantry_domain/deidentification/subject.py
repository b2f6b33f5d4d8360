"""What an object says of itself and must not say any more, and whether it can be sent at all."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from gantry_domain.dictionary import KEYWORDS, UIDS
from gantry_domain.edited_data_set import ENDS, LONGEST_EDITED, STARTS, Encoded
from gantry_domain.elements import ELEMENT
from gantry_domain.private_sop_classes import PRIVATE_SOP_CLASSES
from gantry_domain.sop_classes import STORAGE_CLASSES
from gantry_domain.value_representations import PIXEL_DATA_TAGS

PATIENT_ID = 0x00100020
SOP_CLASS = 0x00080016
_SOP_INSTANCE, _STUDY = 0x00080018, 0x0020000D
_BURNED_IN = 0x00280301
_IMAGE_TYPE = 0x00080008
_READ = frozenset((SOP_CLASS, _SOP_INSTANCE, _STUDY, PATIENT_ID, _BURNED_IN, _IMAGE_TYPE))

# Whose values must not stand in any text that is kept, nor those of any name.
_IDENTIFYING = frozenset(
    KEYWORDS[keyword]
    for keyword in """
        AccessionNumber AdmissionID DeviceSerialNumber FillerOrderNumberImagingServiceRequest
        InstitutionAddress InstitutionName InstitutionalDepartmentName IssuerOfPatientID
        OtherPatientIDs PatientID PatientAddress PatientTelephoneNumbers PerformedProcedureStepID
        PlacerOrderNumberImagingServiceRequest RequestedProcedureID ScheduledProcedureStepID
        StationName StudyID
    """.split()
)
_SHORTEST = 3
# What stands there for want of a value.
_NOBODY = frozenset((b"NONE", b"UNKNOWN", b"OTHER"))
_LONG = 6
_LONG_NUMBER = 5
_DAY = 8
_WORDS = re.compile(rb"[\s\\^=,;:_/()\0-]+")
_NAME_PARTS = re.compile(rb"[\\^=, ]+")


class Withheld(Enum):
    """Why an object is not sent at all, for nothing here could clean it."""

    BURNED_IN = "text may be burned into its pixels"
    CONTENT = "its content is text, a document, graphics or raw data"
    UNKNOWN = "its SOP class is not of the standard"
    NO_IDENTITY = "it has no SOP Instance UID or Study Instance UID"


def _storage(*branches: str) -> tuple[str, ...]:
    return tuple(f"1.2.840.10008.5.1.4.1.1.{branch}" for branch in branches)


# PS3.4 B.5: reports and key objects, presentation states, documents, waveforms with annotations.
_CONTENT = _storage("88", "11", "104", "9", "79.1")
_RAW = _storage("66")[0]
# Those that show text as a rule: secondary captures, ultrasound, visible light, hardcopies.
_SHOWN = (
    *_storage("7", "6", "6.1", "6.2", "3", "3.1", "77.1", "77.2"),
    "1.2.840.10008.5.1.1.29",
    "1.2.840.10008.5.1.1.30",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An object that is to be sent without its identities.

    `identity`: by which all of a patient fits together, the PatientID or else the study. `texts`:
    what must not stand in any text that is kept, in capitals. `shown`: it is a picture of a screen.
    """

    SOPClassUID: str
    SOPInstanceUID: str
    StudyInstanceUID: str
    identity: str
    texts: frozenset[bytes]
    burned_in: str
    shown: bool

    def withheld(self) -> Withheld | None:
        """Why it cannot be sent; None: it can."""
        if not self.SOPInstanceUID or not self.StudyInstanceUID:
            return Withheld.NO_IDENTITY
        of_its_class = withheld_class(self.SOPClassUID)
        if of_its_class is not None:
            return of_its_class
        doubtful = self.shown or _is_of(self.SOPClassUID, _SHOWN)
        if self.burned_in == "YES" or (doubtful and self.burned_in != "NO"):
            return Withheld.BURNED_IN
        return None

    def tells(self, value: bytes) -> bool:
        """Whether a text has in it what identifies the patient: short ones as words of their own,
        for their letters are in many words."""
        folded = value.upper()
        words = frozenset(_WORDS.split(folded))
        return any(text in words or (len(text) >= _LONG and text in folded) for text in self.texts)

    def tells_as_code(self, value: bytes) -> bool:
        """Whether one of several codes is such a text as a whole."""
        return any(each.strip(b"\0 ").upper() in self.texts for each in value.split(b"\\"))

    def tells_as_number(self, value: bytes) -> bool:
        """Likewise of numbers; short ones are of many things."""
        return any(
            len(text) >= _LONG_NUMBER and text in self.texts
            for text in (each.strip(b"\0 ") for each in value.split(b"\\"))
        )


def withheld_class(SOPClassUID: str) -> Withheld | None:
    """Why nothing of this class can be sent; None: it depends on the object."""
    if SOPClassUID not in STORAGE_CLASSES or SOPClassUID in PRIVATE_SOP_CLASSES:
        return Withheld.UNKNOWN
    if SOPClassUID == _RAW or _is_of(SOPClassUID, _CONTENT):
        return Withheld.CONTENT
    return None


def read_subject(source: Encoded) -> Subject:
    """What an object says of itself before its pixels. Raises `UnreadableObject` as walks do."""
    walk = source.walk()
    texts: set[bytes] = set()
    found: dict[int, str] = {}
    depth = 0
    for kind, tag, vr, offset, length in walk:
        if kind == ELEMENT and 0 < length <= LONGEST_EDITED:
            top = not depth
            if vr == "PN" or tag in _IDENTIFYING or (top and vr in ("UI", "DA", "DT")):
                texts.update(_telling(vr, walk.window.read(offset, length)))
            if top and tag in _READ:
                found.setdefault(tag, _plain(walk.window.read(offset, length)))
        depth += (kind in STARTS) - (kind in ENDS)
        if not depth and tag in PIXEL_DATA_TAGS:
            break
    study = found.get(_STUDY, "")
    return Subject(
        SOPClassUID=found.get(SOP_CLASS, ""),
        SOPInstanceUID=found.get(_SOP_INSTANCE, ""),
        StudyInstanceUID=study,
        identity=found.get(PATIENT_ID) or study,
        texts=frozenset(texts),
        burned_in=found.get(_BURNED_IN, "").upper(),
        shown="SCREEN" in found.get(_IMAGE_TYPE, "").upper(),
    )


def _is_of(SOPClassUID: str, roots: tuple[str, ...]) -> bool:
    return any(SOPClassUID == root or SOPClassUID.startswith(f"{root}.") for root in roots)


def _telling(vr: str, value: bytes) -> Iterator[bytes]:
    """The parts of a value that must not be found in other ones."""
    parts: list[bytes] = [value]
    if vr == "PN":
        parts += _NAME_PARTS.split(value)
    elif vr == "DT":
        parts = [value[:_DAY]]
    else:
        parts = value.split(b"\\")
    for part in parts:
        text = part.strip(b"\0 ").upper()
        if len(text) >= _SHORTEST and text not in _NOBODY and _plain(text) not in UIDS:
            yield text


def _plain(value: bytes) -> str:
    # Bytes beyond ASCII stay different from each other, whatever they mean.
    return value.strip(b"\0 ").decode("latin-1")
