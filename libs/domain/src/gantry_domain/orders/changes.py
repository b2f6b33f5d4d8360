"""What a message, an import or a performed step does to patients and orders, as values.

Attributes are elements of the DICOM JSON model by tag. In a change an attribute that is absent says
nothing, and an element without `Value` empties what there is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gantry_domain.json_model import Element
from gantry_domain.orders.states import StepState

Attributes = Mapping[str, Element]


@dataclass(frozen=True, slots=True)
class PatientKey:
    """By what a patient is known; without an issuer `issuer` is empty."""

    PatientID: str
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient, and what is told of them besides their key."""

    key: PatientKey
    attributes: Attributes = field(repr=False)


@dataclass(frozen=True, slots=True)
class OrderNumbers:
    """By what an order is known; each may be empty, but not all of the first three."""

    accession: str = ""
    placer: str = ""
    filler: str = ""
    procedure: str = ""

    @property
    def named(self) -> bool:
        """Whether they name an order at all."""
        return bool(self.accession or self.placer or self.filler)


@dataclass(frozen=True, slots=True)
class Step:
    """A scheduled step; `number` is its ID, empty where nobody gave it one."""

    number: str
    attributes: Attributes = field(repr=False)
    start_told: bool = False
    """Whether the time is told at which it begins."""


@dataclass(frozen=True, slots=True)
class RegisterPatient:
    """A patient is new, or is changed."""

    patient: Patient


@dataclass(frozen=True, slots=True)
class ChangeVisit:
    """A patient is elsewhere: for all their orders that are not over."""

    key: PatientKey
    attributes: Attributes = field(repr=False)


@dataclass(frozen=True, slots=True)
class MergePatients:
    """What is of the patient `old` is that of the survivor, who may be new: a renumbering."""

    survivor: Patient
    old: PatientKey


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """An order is new, or is changed; `new` reopens one that was cancelled."""

    patient: Patient
    numbers: OrderNumbers
    attributes: Attributes = field(repr=False)
    steps: tuple[Step, ...] = ()
    new: bool = True


@dataclass(frozen=True, slots=True)
class ChangeState:
    """An order comes to another state: all its steps, as far as they may."""

    key: PatientKey | None
    numbers: OrderNumbers
    state: StepState


Change = RegisterPatient | ChangeVisit | MergePatients | PlaceOrder | ChangeState


def merged(present: Attributes, told: Attributes) -> dict[str, Element]:
    """What there is after a change, in ascending order of tags: what has more than its VR."""
    both = {**present, **told}
    return {tag: element for tag, element in sorted(both.items()) if len(element) > 1}
