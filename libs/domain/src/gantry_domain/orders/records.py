"""Orders as records of a table: attributes by keyword, each with its value as text.

What a spreadsheet or another program exports; a message of HL7 says the same in its own way.
"""

from collections.abc import Mapping

from gantry_domain.dictionary import KEYWORDS, VRS
from gantry_domain.errors import PermanentError
from gantry_domain.hl7.values import LENGTHS, coded, text_element, texts_element
from gantry_domain.json_model import PN_GROUPS, Element
from gantry_domain.levels import comparable_date, comparable_time
from gantry_domain.orders.attributes import PLACES, Place, tag_of
from gantry_domain.orders.changes import (
    Change,
    ChangeState,
    OrderNumbers,
    Patient,
    PatientKey,
    PlaceOrder,
    Step,
)
from gantry_domain.orders.states import StepState

STATE = "State"
"""Besides the attributes: a state of the order, such as cancelled."""

_NUMBERS = {
    "accession": "AccessionNumber",
    "placer": "PlacerOrderNumberImagingServiceRequest",
    "filler": "FillerOrderNumberImagingServiceRequest",
    "procedure": "RequestedProcedureID",
}
_STEP_ID = "ScheduledProcedureStepID"


class BadRecord(PermanentError):
    """A record that is no order. The text names the attribute, never its value."""

    def __init__(self, keyword: str, complaint: str) -> None:
        super().__init__(f"{keyword} {complaint}")
        self.keyword = keyword


def order_of(record: Mapping[str, str]) -> Change:
    """What a record says: an order that is new or changed, or its state. Raises `BadRecord`.

    A value that is empty says nothing. Several stations and the like have backslashes between
    them, codes are code^meaning^scheme, groups of a name have = between them.
    """
    told = {keyword: value.strip() for keyword, value in record.items() if value.strip()}
    for keyword in told:
        if keyword not in PLACES and keyword != STATE:
            raise BadRecord(keyword, "is no attribute that orders have")
    state = _state(told.pop(STATE, ""))
    found: dict[Place, dict[str, Element]] = {place: {} for place in Place}
    for keyword, value in told.items():
        found[PLACES[keyword]][tag_of(keyword)] = _element(keyword, value)
    numbers = OrderNumbers(**{name: told.get(keyword, "") for name, keyword in _NUMBERS.items()})
    if not numbers.named:
        raise BadRecord("AccessionNumber", "is missing, and other numbers are too")
    key = PatientKey(told.get("PatientID", ""), told.get("IssuerOfPatientID", ""))
    if state is not None:
        return ChangeState(key if key.PatientID else None, numbers, state)
    if not key.PatientID:
        raise BadRecord("PatientID", "is missing")
    step = found[Place.STEP]
    step.pop(tag_of(_STEP_ID), None)
    return PlaceOrder(
        Patient(key, found[Place.PATIENT]),
        numbers,
        found[Place.ORDER],
        (
            Step(
                told.get(_STEP_ID, ""),
                step,
                start_told="ScheduledProcedureStepStartDate" in told,
            ),
        ),
    )


def _state(text: str) -> StepState | None:
    """The state to which an order is brought; None: it is placed."""
    if text in ("", StepState.SCHEDULED.value):
        return None
    try:
        return StepState(text)
    except ValueError:
        states = ", ".join(StepState)
        raise BadRecord(STATE, f"is none: write one of {states}") from None


def _element(keyword: str, value: str) -> Element:
    vr = VRS[KEYWORDS[keyword]]
    complaints: list[str] = []
    element: Element | None
    if vr == "PN":
        groups = zip(PN_GROUPS, value.split("="), strict=False)
        element = {"vr": vr, "Value": [{group: text for group, text in groups if text}]}
    elif vr == "SQ":
        code, meaning, scheme = (*value.split("^"), "", "", "")[:3]
        element = coded(code, meaning or code, scheme or "L") if code else None
    elif vr in ("DA", "TM"):
        comparable = comparable_date(value) if vr == "DA" else comparable_time(value)
        element = {"vr": vr, "Value": [value]} if comparable else None
    elif vr in ("DS", "US"):
        element = _number(vr, value)
    elif vr == "AE":
        element = texts_element(vr, value.split("\\"), complaints.append)
    elif "\\" in value or len(value) > LENGTHS.get(vr, len(value)):
        element = None
    else:
        element = text_element(vr, value, complaints.append)
    if element is None or complaints:
        raise BadRecord(keyword, f"has a value that is none of VR {vr}")
    return element


def _number(vr: str, value: str) -> Element | None:
    try:
        number = float(value) if vr == "DS" else int(value)
    except ValueError:
        return None
    return {"vr": vr, "Value": [number]} if 0 <= number < 65536 else None
