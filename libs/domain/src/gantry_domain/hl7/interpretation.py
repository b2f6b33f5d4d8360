"""What a message means: the changes that it makes to patients and orders, or why it makes none.

    ORM^O01, OMI^O23, OMG^O19   a group of segments for each ORC; a step for each IPC, or one
    SIU^S12 to S15, S17, S26    one order; a step for each AIS, or one
    ADT                         patients, where they are, and which of them are one

Pure: the same message means the same, whatever there is already.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gantry_domain.hl7.acknowledgement import (
    REQUIRED_FIELD,
    SEGMENT_SEQUENCE,
    TABLE_VALUE,
    UNSUPPORTED_EVENT,
    UNSUPPORTED_TYPE,
    UNSUPPORTED_VERSION,
    Ack,
    Refusal,
)
from gantry_domain.hl7.fields import Fields, MessageRefused, refused
from gantry_domain.hl7.message import Message, Segment
from gantry_domain.hl7.rules import Rules
from gantry_domain.orders.attributes import Place, tag_of
from gantry_domain.orders.changes import (
    Change,
    ChangeState,
    ChangeVisit,
    MergePatients,
    OrderNumbers,
    PatientKey,
    PlaceOrder,
    RegisterPatient,
)
from gantry_domain.orders.states import StepState

_ORDERS = {"ORM": "O01", "OMI": "O23", "OMG": "O19"}
# ORC-1, HL7 Table 0119: of the placer, and what a filler tells by itself of the same.
_PLACED = {"NW": True, "XO": False, "XX": False}
_ENDED = {
    "CA": StepState.CANCELLED, "OC": StepState.CANCELLED, "CR": StepState.CANCELLED,
    "DC": StepState.DISCONTINUED, "OD": StepState.DISCONTINUED, "DR": StepState.DISCONTINUED,
}  # fmt: skip
_STATUS_CHANGED = "SC"
# ORC-5, HL7 Table 0038; None: no news for a worklist.
_STATUSES = {
    "SC": StepState.SCHEDULED, "IP": StepState.IN_PROGRESS, "CM": StepState.COMPLETED,
    "CA": StepState.CANCELLED, "DC": StepState.DISCONTINUED, "A": None, "HD": None,
}  # fmt: skip
_BOOKED = {"S12": True, "S13": False, "S14": False}
_NOT_BOOKED = frozenset(("S15", "S17", "S26"))
_REGISTERED = frozenset(
    "A01 A02 A03 A04 A05 A06 A07 A08 A11 A12 A13 A28 A31".split()
)  # of one patient
_LEFT = frozenset(("A03", "A11"))  # after it they are nowhere in the house
_MERGED = frozenset(("A18", "A34", "A40", "A47"))
_OF_VISIT = frozenset(("CurrentPatientLocation", "PregnancyStatus", "Allergies", "PatientWeight"))

# Each is looked for among all segments: a message of a thousand would take minutes.
_MOST_STEPS = 200
_STEPS = frozenset(("OBR", "IPC", "AIS"))

# Findings.
STATE_WITHOUT_EFFECT = "state_without_effect"
MERGED_WITH_ITSELF = "merged_with_itself"


@dataclass(frozen=True, slots=True)
class Understood:
    """The changes of a message in their order, and what is odd about it, as slugs with fields.

    `ignored`: it is of a type that is acknowledged and has no effect.
    """

    changes: tuple[Change, ...]
    findings: tuple[str, ...] = ()
    ignored: bool = False


def interpret(message: Message, rules: Rules) -> Understood | Refusal:
    """What the message means."""
    fields = Fields(rules)
    try:
        _check_header(message)
        kind, event = message.kind, message.event
        if not rules.ignored.isdisjoint((kind, f"{kind}^{event}")):
            return Understood((), message.findings, ignored=True)
        changes = tuple(_changes(message, fields))
    except MessageRefused as error:
        return error.refusal
    return Understood(changes, (*message.findings, *fields.findings))


def _check_header(message: Message) -> None:
    header = message.header
    version = header.text(12)
    if version and not version.startswith("2"):
        raise _rejected(UNSUPPORTED_VERSION, "versions 2.3 to 2.8 are understood", 12)
    if not header.text(10):
        raise _rejected(REQUIRED_FIELD, "MSH-10 is missing, by which an answer is known", 10)


def _rejected(condition: tuple[str, str], text: str, number: int) -> MessageRefused:
    return MessageRefused(Refusal(Ack.REJECTED, condition, text, "MSH", number))


def _changes(message: Message, fields: Fields) -> Iterator[Change]:
    kind, event = message.kind, message.event
    if sum(segment.name in _STEPS for segment in message.segments) > _MOST_STEPS:
        raise refused(SEGMENT_SEQUENCE, f"more than {_MOST_STEPS} orders and steps in one message")
    if kind in _ORDERS:
        if event not in ("", _ORDERS[kind]):
            raise _rejected(UNSUPPORTED_EVENT, f"of {kind} only {_ORDERS[kind]} is understood", 9)
        return _combined(_orders(message, fields))
    if kind == "SIU":
        if event not in _BOOKED and event not in _NOT_BOOKED:
            raise _rejected(UNSUPPORTED_EVENT, "this event of SIU is not understood", 9)
        return _combined(_appointment(message, fields, event))
    if kind == "ADT":
        if event in _REGISTERED:
            return _registration(message, fields, event)
        if event in _MERGED:
            return _merges(message, fields)
        raise _rejected(UNSUPPORTED_EVENT, "this event of ADT is not understood", 9)
    raise _rejected(UNSUPPORTED_TYPE, "ORM, OMI, OMG, SIU and ADT are understood", 9)


def _pid(message: Message) -> Segment:
    segment = message.first("PID")
    if segment is None:
        raise refused(SEGMENT_SEQUENCE, "PID is missing", "PID")
    return segment


def _orders(message: Message, fields: Fields) -> Iterator[Change]:
    shared, groups = _grouped(message)
    if not groups:
        raise refused(SEGMENT_SEQUENCE, "ORC is missing", "ORC")
    for group in groups:
        if group[0].name != "ORC":
            raise refused(SEGMENT_SEQUENCE, "an OBR without ORC", "ORC")
        control = group[0].text(1).upper()
        state: StepState | None = _ENDED.get(control)
        if control == _STATUS_CHANGED:
            told = group[0].text(5).upper()
            if told not in _STATUSES:
                raise refused(TABLE_VALUE, "ORC-5 is no state that an order is in", "ORC", 5)
            state = _STATUSES[told]
            if state is None:
                fields.findings.append(f"{STATE_WITHOUT_EFFECT} ORC-5")
                continue
        elif state is None and control not in _PLACED:
            raise refused(TABLE_VALUE, "ORC-1 is not understood", "ORC", 1)
        parts: list[Segment | None] = [part for part in group if part.name == "IPC"]
        rest = [part for part in (*group, *shared) if part.name != "IPC"]
        for part in parts or [None]:
            scope = rest if part is None else [part, *rest]
            if state is not None:
                yield _state_change(message, fields, scope, state)
            else:
                yield _placed(message, fields, scope, new=_PLACED[control])


def _appointment(message: Message, fields: Fields, event: str) -> Iterator[Change]:
    if message.first("SCH") is None:
        # Named first, for without it nothing else helps.
        _pid(message)
        raise refused(SEGMENT_SEQUENCE, "SCH is missing", "SCH")
    if event in _NOT_BOOKED:
        yield _state_change(message, fields, message.segments, StepState.CANCELLED)
        return
    services: list[Segment | None] = list(message.all("AIS"))
    rest = [segment for segment in message.segments if segment.name != "AIS"]
    for service in services or [None]:
        scope = rest if service is None else [service, *rest]
        yield _placed(message, fields, scope, new=_BOOKED[event])


def _grouped(message: Message) -> tuple[list[Segment], list[list[Segment]]]:
    """The segments before the first order, and those of each order."""
    shared: list[Segment] = []
    groups: list[list[Segment]] = []
    for segment in message.segments:
        begins = segment.name == "ORC" or (
            segment.name == "OBR" and (not groups or any(s.name == "OBR" for s in groups[-1]))
        )
        if begins and segment.name == "OBR" and groups:
            groups.append([groups[-1][0], segment])  # one ORC for several
        elif begins:
            groups.append([segment])
        elif groups:
            groups[-1].append(segment)
        else:
            shared.append(segment)
    return shared, groups


def _numbers(fields: Fields, scope: Sequence[Segment]) -> OrderNumbers:
    numbers = fields.numbers(scope)
    if not numbers.named:
        text = "no accession, placer or filler number says which order it is"
        raise refused(REQUIRED_FIELD, text)
    return numbers


def _state_change(
    message: Message, fields: Fields, scope: Sequence[Segment], state: StepState
) -> ChangeState:
    segment = message.first("PID")
    key = None if segment is None else fields.key(segment, 3, otherwise=2)
    return ChangeState(key, _numbers(fields, scope), state)


def _placed(message: Message, fields: Fields, scope: Sequence[Segment], *, new: bool) -> PlaceOrder:
    segment = _pid(message)
    numbers = _numbers(fields, scope)
    attributes = fields.order(scope)
    uid = fields.study_uid(scope)
    for keyword, vr, value in (
        ("AccessionNumber", "SH", numbers.accession),
        ("PlacerOrderNumberImagingServiceRequest", "LO", numbers.placer),
        ("FillerOrderNumberImagingServiceRequest", "LO", numbers.filler),
        ("RequestedProcedureID", "SH", numbers.procedure),
        ("StudyInstanceUID", "UI", uid),
    ):
        if value:
            attributes[tag_of(keyword)] = {"vr": vr, "Value": [value]}
    return PlaceOrder(
        fields.patient(segment, scope), numbers, attributes, (fields.step(scope),), new
    )


def _combined(changes: Iterator[Change]) -> Iterator[Change]:
    """The steps of one requested procedure together, which came one by one."""
    last: Change | None = None
    for change in changes:
        if isinstance(last, PlaceOrder) and isinstance(change, PlaceOrder) and _alike(last, change):
            last = replace(
                last,
                numbers=replace(
                    last.numbers, procedure=last.numbers.procedure or change.numbers.procedure
                ),
                attributes={**change.attributes, **last.attributes},
                steps=(*last.steps, *change.steps),
            )
            continue
        if isinstance(last, ChangeState) and last == change:
            continue
        if last is not None:
            yield last
        last = change
    if last is not None:
        yield last


_UID = tag_of("StudyInstanceUID")


def _alike(one: PlaceOrder, other: PlaceOrder) -> bool:
    first, second = one.numbers, other.numbers
    uids = {e["Value"][0] for e in (one.attributes.get(_UID), other.attributes.get(_UID)) if e}
    if one.new != other.new or len(uids) > 1:
        return False
    if first.procedure and second.procedure and first.procedure != second.procedure:
        return False
    if first.accession or second.accession:
        return first.accession == second.accession
    return (first.placer, first.filler) == (second.placer, second.filler)


def _registration(message: Message, fields: Fields, event: str) -> Iterator[Change]:
    scope = message.segments
    patient = fields.patient(_pid(message), scope)
    yield RegisterPatient(patient)
    visit = fields.attributes(Place.ORDER, scope, only=_OF_VISIT)
    if event in _LEFT:
        visit[tag_of("CurrentPatientLocation")] = {"vr": "LO"}
    if visit:
        yield ChangeVisit(patient.key, visit)


def _merges(message: Message, fields: Fields) -> Iterator[Change]:
    """Each PID with the MRG that follows it."""
    survivor: Segment | None = None
    found = False
    for segment in message.segments:
        if segment.name == "PID":
            survivor = segment
        elif segment.name == "MRG":
            if survivor is None:
                break
            found = True
            patient = fields.patient(survivor, ())
            old: PatientKey = fields.key(segment, 1)
            if old == patient.key:
                fields.findings.append(f"{MERGED_WITH_ITSELF} MRG-1")
                yield RegisterPatient(patient)
            else:
                yield MergePatients(patient, old)
    if not found:
        missing = "PID" if survivor is None else "MRG"
        raise refused(SEGMENT_SEQUENCE, f"{missing} is missing", missing)
