"""Another system's worklist as orders: what is asked of it, and what its answers mean.

An answer is a scheduled step with its order and patient (PS3.4 Table K.6-1); those of one order are
one change here.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from struct import Struct

import orjson

from gantry_domain.dictionary import KEYWORDS, VRS
from gantry_domain.identifier_encoding import encode_text_element
from gantry_domain.json_model import Element
from gantry_domain.orders.attributes import (
    PLACES,
    SCHEDULED_PROCEDURE_STEP_SEQUENCE,
    Place,
    tag_of,
)
from gantry_domain.orders.changes import OrderNumbers, Patient, PatientKey, PlaceOrder, Step
from gantry_domain.transfer_syntaxes import IMPLICIT_VR_LITTLE_ENDIAN

Answer = Mapping[str, Element]

_HEAD = Struct("<HHL")
_DATE = "ScheduledProcedureStepStartDate"
_STUDY = tag_of("StudyInstanceUID")
_STEP_ID = tag_of("ScheduledProcedureStepID")


def question(first: date, last: date) -> bytes:
    """The identifier that asks for all of these days, in Implicit VR Little Endian."""
    step = _texts(Place.STEP, {_DATE: f"{first:%Y%m%d}-{last:%Y%m%d}"})
    item = _HEAD.pack(0xFFFE, 0xE000, len(step)) + step
    sequence = _HEAD.pack(0x0040, 0x0100, len(item)) + item
    elements = {int(SCHEDULED_PROCEDURE_STEP_SEQUENCE, 16): sequence}
    for place in (Place.PATIENT, Place.ORDER):
        elements |= _elements(place, {})
    return b"".join(elements[tag] for tag in sorted(elements))


def _texts(place: Place, values: Mapping[str, str]) -> bytes:
    elements = _elements(place, values)
    return b"".join(elements[tag] for tag in sorted(elements))


def _elements(place: Place, values: Mapping[str, str]) -> dict[int, bytes]:
    """All attributes of a place as keys, empty where there is no value."""
    found = {}
    for keyword, where in PLACES.items():
        if where is place:
            tag = KEYWORDS[keyword]
            value = values.get(keyword, "")
            found[tag] = (
                encode_text_element(tag, VRS[tag], value, transfer_syntax=IMPLICIT_VR_LITTLE_ENDIAN)
                if value
                else _HEAD.pack(tag >> 16, tag & 0xFFFF, 0)
            )
    return found


@dataclass(frozen=True, slots=True)
class PolledOrder:
    """An order of another system's worklist. `digest` is another one if it says anything else."""

    name: str
    """By which it is known there."""
    change: PlaceOrder
    last_day: str
    """The day of its last step, as in DICOM; empty: it has none."""
    digest: bytes


@dataclass(frozen=True, slots=True)
class Polled:
    """All orders of an answer, and how many steps cannot be taken for they name no patient or no
    order."""

    orders: tuple[PolledOrder, ...]
    nameless: int


def orders_of(answers: Iterable[Answer]) -> Polled:
    """What the answers to one question mean together."""
    grouped: dict[str, list[Answer]] = {}
    nameless = 0
    for answer in answers:
        numbers, patient = _numbers(answer), _text(answer, "PatientID")
        if not numbers.named or not patient:
            nameless += 1
            continue
        name = [
            _text(answer, "IssuerOfPatientID"), patient, numbers.accession, numbers.filler,
            numbers.placer, numbers.procedure,
        ]  # fmt: skip
        grouped.setdefault(orjson.dumps(name).decode(), []).append(answer)
    return Polled(tuple(_order(name, group) for name, group in grouped.items()), nameless)


def _order(name: str, answers: list[Answer]) -> PolledOrder:
    first = answers[0]
    steps = sorted(
        (item or {} for answer in answers for item in _items(answer)),
        key=lambda item: _text(item, "ScheduledProcedureStepID"),
    )
    key = PatientKey(_text(first, "PatientID"), _text(first, "IssuerOfPatientID"))
    attributes = _of(first, Place.ORDER)
    if "Value" not in attributes.get(_STUDY, {}):
        attributes.pop(_STUDY, None)
    change = PlaceOrder(
        Patient(key, _of(first, Place.PATIENT)),
        _numbers(first),
        attributes,
        tuple(map(_step, steps)),
    )
    told = [dict(change.patient.attributes), attributes, [dict(s.attributes) for s in change.steps]]
    return PolledOrder(
        name,
        change,
        max((_text(item, _DATE) for item in steps), default=""),
        hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).digest(),
    )


def _step(item: Answer) -> Step:
    attributes = _of(item, Place.STEP)
    attributes.pop(_STEP_ID, None)
    return Step(
        _text(item, "ScheduledProcedureStepID"), attributes, start_told=bool(_text(item, _DATE))
    )


def _numbers(answer: Answer) -> OrderNumbers:
    return OrderNumbers(
        accession=_text(answer, "AccessionNumber"),
        placer=_text(answer, "PlacerOrderNumberImagingServiceRequest"),
        filler=_text(answer, "FillerOrderNumberImagingServiceRequest"),
        procedure=_text(answer, "RequestedProcedureID"),
    )


def _of(answer: Answer, place: Place) -> dict[str, Element]:
    """What is told of a place: an attribute that came empty is empty."""
    tags = {tag_of(keyword) for keyword, where in PLACES.items() if where is place}
    return {tag: element for tag, element in answer.items() if tag in tags}


def _items(answer: Answer) -> Iterable[Answer]:
    values: list[Answer] = list(answer.get(SCHEDULED_PROCEDURE_STEP_SEQUENCE, {}).get("Value", ()))
    return values


def _text(answer: Answer, keyword: str) -> str:
    values = answer.get(tag_of(keyword), {}).get("Value", ())
    return str(next(iter(values), None) or "").strip()
