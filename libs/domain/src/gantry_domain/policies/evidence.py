"""What the rules may look at: a study, its orders, its history, and what people decided."""

from dataclasses import dataclass, field
from enum import Enum

from gantry_domain.policies.major_keys import MajorKeys
from gantry_domain.policies.matching import Order
from gantry_domain.policies.standing import UNDECIDED, Standing
from gantry_domain.routes import StudyFacts

_NOTHING = StudyFacts(partition="")


class Look(Enum):
    """What costs a look into the index of its own, and is gathered only if a rule asks for it."""

    ORDERS = "orders"
    SENDERS = "senders"
    SERIES = "series"
    NAMESAKES = "namesakes"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """A series: the keywords that have a value, and its patient as its own images tell."""

    present: frozenset[str] = frozenset()
    keys: MajorKeys = field(default_factory=MajorKeys, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A study as the rules see it. Texts are as its source object has them, or empty.

    `images` is the number of distinct SOP Instance UIDs of image classes, `namesakes` that of other
    studies with the same accession number, counted up to a few. `patients` has an entry for each
    patient that its instances name.
    """

    PatientID: str = ""
    IssuerOfPatientID: str = ""
    PatientName: str = ""
    PatientBirthDate: str = ""
    PatientSex: str = ""
    AccessionNumber: str = ""
    StudyInstanceUID: str = ""
    StudyDate: str = ""
    images: int = 0
    facts: StudyFacts = _NOTHING
    present: frozenset[str] = frozenset()
    """Keywords of the patient and the study that have a value."""
    series: tuple[SeriesFacts, ...] = ()
    patients: frozenset[str] = frozenset()
    namesakes: int = 0
    refused_at_door: int = 0
    """How often an image of it was refused for being one too many."""
    over_quota: frozenset[str] = frozenset()
    """Of which amounts its sender had brought too much that day."""
    orders: tuple[Order, ...] = ()
    """Those with its accession number or its Study Instance UID, and the one it was linked to."""
    feed_alive: bool = False
    """Whether orders come in, so that a study without one is odd."""
    standing: Standing = UNDECIDED

    @property
    def keys(self) -> MajorKeys:
        """The major keys of the patient."""
        return MajorKeys(
            PatientID=self.PatientID,
            IssuerOfPatientID=self.IssuerOfPatientID,
            PatientName=self.PatientName,
            PatientBirthDate=self.PatientBirthDate,
            PatientSex=self.PatientSex,
        )
