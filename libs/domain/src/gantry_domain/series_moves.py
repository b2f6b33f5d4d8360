"""Series that people move to other studies: where an object is, and what it says there.

    sent in A ──move──▶ in B ──move──▶ in C

Where an object is follows from where it was sent and from the moves that stand, and from nothing
else: so whatever comes late follows, and what is undone is as if it had never been. A move holds
the values that its series have from then on, as a correction does.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from gantry_domain.attributes import Level, attributes_at
from gantry_domain.corrections import Correction, text_of
from gantry_domain.dictionary import KEYWORDS

STUDY_UID = "StudyInstanceUID"

# Of the modality's clock, whatever the study.
_OF_THE_OBJECT = ("TimezoneOffsetFromUTC",)

_TEXTS = (
    *(
        each.keyword
        for each in attributes_at(Level.PATIENT, Level.STUDY)
        if not each.computed
        and each.vr != "SQ"
        and each.keyword not in (STUDY_UID, *_OF_THE_OBJECT)
    ),
    "OtherPatientNames",
    "PatientAddress",
    "PatientMotherBirthName",
    "PatientTelephoneNumbers",
    "MedicalRecordLocator",
    "EthnicGroup",
    "Occupation",
    "AdditionalPatientHistory",
)
"""What a study says of its patient and itself, as text; it comes from the other study."""

_SEQUENCES = (
    "ReferencedStudySequence",
    "ReferencedPatientSequence",
    "IssuerOfAccessionNumberSequence",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "RequestAttributesSequence",
)
"""What names the study, the patient or the order that it was sent with: it goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesMove:
    """A move that stands: series of a study that are in another one since.

    `id` is that of the decision, a UUID of version 7. `attributes`: new values by keyword; an empty
    one of a sequence takes it away.
    """

    id: UUID
    moved_from: str
    moved_to: str
    series: frozenset[str]
    attributes: Mapping[str, str] = field(repr=False)

    @property
    def correction(self) -> Correction:
        """What it does to an object."""
        return Correction(self.id, self.attributes)


def path_of(
    StudyInstanceUID: str, SeriesInstanceUID: str, moves: Iterable[SeriesMove]
) -> tuple[SeriesMove, ...]:
    """The moves that an object makes which was sent in this study and series, in their order."""
    place = StudyInstanceUID
    path: list[SeriesMove] = []
    for move in sorted(moves, key=lambda each: each.id):
        if move.moved_from == place and SeriesInstanceUID in move.series:
            path.append(move)
            place = move.moved_to
    return tuple(path)


def changes_of(path: Sequence[Correction], corrections: Iterable[Correction]) -> list[Correction]:
    """All that is changed of an object: by its moves, and by those corrections of the study where
    it is now that came after them. The last move knew those before it."""
    since = path[-1].id if path else None
    return [*path, *(each for each in corrections if since is None or each.id > since)]


def values_of_study(header: Mapping[str, Any], StudyInstanceUID: str) -> dict[str, str]:
    """What series have to say that are moved into a study of which this is a header (DICOM JSON
    model)."""
    texts = {
        keyword: text_of(header.get(f"{KEYWORDS[keyword]:08X}", {})) or "" for keyword in _TEXTS
    }
    return {**texts, **dict.fromkeys(_SEQUENCES, ""), STUDY_UID: StudyInstanceUID}


def values_kept(corrections: Iterable[Correction], StudyInstanceUID: str) -> dict[str, str]:
    """What series have to say that a new study is made of: what they said, as it was corrected."""
    values: dict[str, str] = {}
    for each in corrections:
        values |= each.attributes
    return {**values, STUDY_UID: StudyInstanceUID}
