"""The fields of a message as attributes of patients, orders and steps, by the mapping."""

from collections.abc import Iterator, Sequence
from functools import partial

from gantry_domain.dictionary import KEYWORDS, VRS
from gantry_domain.hl7.acknowledgement import DATA_TYPE, REQUIRED_FIELD, Ack, Refusal
from gantry_domain.hl7.mapping import Path
from gantry_domain.hl7.message import Repetition, Segment
from gantry_domain.hl7.rules import Rules
from gantry_domain.hl7.values import (
    INVALID,
    LENGTHS,
    TOO_LONG,
    code_element,
    measure_element,
    moment,
    name_element,
    pregnancy_element,
    priority_element,
    sex_element,
    text_element,
    texts_element,
)
from gantry_domain.json_model import Element, valid_uid
from gantry_domain.orders.attributes import Place, tag_of
from gantry_domain.orders.changes import OrderNumbers, Patient, PatientKey, Step

Attributes = dict[str, Element]

_START_DATE, _START_TIME = "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"
# Read apart: what an order, or a step, is known by.
_NUMBERS = frozenset(
    (
        "AccessionNumber", "PlacerOrderNumberImagingServiceRequest",
        "FillerOrderNumberImagingServiceRequest", "RequestedProcedureID", "StudyInstanceUID",
        "ScheduledProcedureStepID", _START_DATE,
    )
)  # fmt: skip
# Of persons, whose names begin with the first component; elsewhere an identifier is in front.
_NAMES_FIRST = frozenset(("PID", "MRG", "NK1"))
_SEVERAL_SEGMENTS = frozenset(("Allergies",))


class MessageRefused(Exception):
    """A message that is not accepted, and why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


def refused(condition: tuple[str, str], text: str, segment: str = "", number: int = 0) -> Exception:
    """To be raised: an Application Error."""
    return MessageRefused(Refusal(Ack.ERROR, condition, text, segment, number))


class Fields:
    """Reads attributes from segments; `findings` gathers what is odd, as `rule PID-8`."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.findings: list[str] = []

    def patient(self, segment: Segment, scope: Sequence[Segment]) -> Patient:
        """The patient of a PID segment. Raises `MessageRefused`."""
        key = self.key(segment, 3, otherwise=2)
        attributes = self.attributes(Place.PATIENT, (segment, *scope))
        attributes[tag_of("PatientID")] = {"vr": "LO", "Value": [key.PatientID]}
        if key.issuer:
            attributes[tag_of("IssuerOfPatientID")] = {"vr": "LO", "Value": [key.issuer]}
        return Patient(key, attributes)

    def key(self, segment: Segment, number: int, *, otherwise: int = 0) -> PatientKey:
        """The identifier in a field of type CX. Raises `MessageRefused`."""
        found = [r for r in segment.repetitions(number) if r.text() and not r.null]
        if not found and otherwise:
            found = [r for r in segment.repetitions(otherwise) if r.text() and not r.null]
        if not found:
            text = f"{segment.name}-{number} has no identifier"
            raise refused(REQUIRED_FIELD, text, segment.name, number)
        chosen = next(filter(self._wanted, found), found[0])
        issuer = chosen.text(4, 1) or chosen.text(4, 2)
        key = PatientKey(_identifier(chosen.text()), _identifier(issuer))
        if max(len(key.PatientID), len(key.issuer)) > LENGTHS["LO"] or not key.PatientID:
            text = f"{segment.name}-{number} is no identifier of 1 to 64 characters"
            raise refused(DATA_TYPE, text, segment.name, number)
        return key

    def _wanted(self, repetition: Repetition) -> bool:
        authority, kind = self._rules.authority, self._rules.identifier_type
        if authority is None and kind is None:
            return False
        return (authority is None or authority in repetition.subcomponents(4)) and (
            kind is None or repetition.text(5) == kind
        )

    def numbers(self, scope: Sequence[Segment]) -> OrderNumbers:
        """By what the order is known. Raises `MessageRefused`."""
        accession, where = self._number("AccessionNumber", scope)
        if len(accession) > LENGTHS["SH"]:
            text = f"{where} is longer than 16 characters, which no Accession Number is"
            raise refused(DATA_TYPE, text, *_place(where))
        procedure, where = self._number("RequestedProcedureID", scope)
        if len(procedure) > LENGTHS["SH"]:
            self._note(where, TOO_LONG)
            procedure = ""
        return OrderNumbers(
            accession=accession,
            placer=self._number("PlacerOrderNumberImagingServiceRequest", scope)[0][:64],
            filler=self._number("FillerOrderNumberImagingServiceRequest", scope)[0][:64],
            procedure=procedure,
        )

    def study_uid(self, scope: Sequence[Segment]) -> str:
        """Empty where none is told. Raises `MessageRefused` for what is no UID."""
        uid, where = self._number("StudyInstanceUID", scope)
        if uid and not valid_uid(uid):
            raise refused(DATA_TYPE, f"{where} is no UID", *_place(where))
        return uid

    def order(self, scope: Sequence[Segment]) -> Attributes:
        """What is told of an order besides its numbers."""
        return self.attributes(Place.ORDER, scope)

    def step(self, scope: Sequence[Segment]) -> Step:
        """One scheduled step."""
        attributes = self.attributes(Place.STEP, scope)
        number, where = self._number("ScheduledProcedureStepID", scope)
        if len(number) > LENGTHS["SH"]:
            self._note(where, TOO_LONG)
            number = ""
        start = self._start(scope)
        if start is not None:
            date, time = start
            attributes[tag_of(_START_DATE)] = {"vr": "DA", "Value": [date]}
            attributes[tag_of(_START_TIME)] = {"vr": "TM", "Value": [time or "000000"]}
        stations = tag_of("ScheduledStationAETitle")
        modality = _first(attributes, "Modality")
        if stations not in attributes and modality:
            location = _first(attributes, "ScheduledProcedureStepLocation")
            titles = self._rules.station_titles(modality, location)
            if titles:
                attributes[stations] = {"vr": "AE", "Value": list(titles)}
        return Step(number, attributes, start_told=start is not None)

    def attributes(
        self, place: Place, scope: Sequence[Segment], only: frozenset[str] | None = None
    ) -> Attributes:
        """The attributes of a place, `only` these of them; without those that are read apart."""
        found: Attributes = {}
        for keyword, paths in self._rules.mapped[place].items():
            if keyword in _NUMBERS or (only is not None and keyword not in only):
                continue
            for path in paths:
                element = self._element(keyword, path, scope)
                if element is not None:
                    found[tag_of(keyword)] = element
                    break
        return found

    def _element(self, keyword: str, path: Path, scope: Sequence[Segment]) -> Element | None:
        report = partial(self._note, f"{path.segment}-{path.field}")
        segments = list(_matching(scope, path))
        if keyword in _SEVERAL_SEGMENTS:
            return texts_element("LO", [_text(each, path) for each in segments], report)
        for segment in segments:
            element = self._convert(keyword, path, segment)
            if element is not None:
                return element
        return None

    def _convert(self, keyword: str, path: Path, segment: Segment) -> Element | None:
        vr = VRS[KEYWORDS[keyword]]
        report = partial(self._note, f"{path.segment}-{path.field}")
        repetitions = segment.repetitions(path.field)
        text = _text(segment, path)
        if repetitions[0].null:
            return {"vr": vr}
        if keyword == "PatientSex":
            return sex_element(repetitions[0].text(path.component or 1), report)
        if keyword == "RequestedProcedurePriority":
            return priority_element(text, report)
        if keyword == "PregnancyStatus":
            return pregnancy_element([each.text() for each in repetitions])
        if keyword in ("PatientWeight", "PatientSize"):
            return measure_element(keyword, text, segment.text(6), report)
        if vr == "PN":
            first = 1 if path.segment in _NAMES_FIRST else 2
            return name_element(repetitions, path.component or first, report)
        if vr == "SQ":
            return code_element(repetitions[0], path.component or 1)
        if vr == "AE":
            return texts_element(
                vr, [each.text(path.component or 1) for each in repetitions], report
            )
        if vr == "DA":
            found = moment(repetitions[0].text(path.component or 1), self._rules.zone)
            if found is None and text:
                report(INVALID)
            return {"vr": vr, "Value": [found[0]]} if found else None
        return text_element(vr, text, report)

    def _number(self, keyword: str, scope: Sequence[Segment]) -> tuple[str, str]:
        """The first value of what is read apart, and the field that it is in."""
        for place in Place:
            for path in self._rules.mapped[place].get(keyword, ()):
                for segment in _matching(scope, path):
                    text = _identifier(segment.text(path.field, path.component or 1))
                    if text and text != '""':
                        return text, f"{path.segment}-{path.field}"
        return "", ""

    def _start(self, scope: Sequence[Segment]) -> tuple[str, str] | None:
        for path in self._rules.mapped[Place.STEP].get(_START_DATE, ()):
            for segment in _matching(scope, path):
                text = segment.text(path.field, path.component or 1)
                found = moment(text, self._rules.zone)
                if found is not None:
                    return found
        return None

    def _note(self, where: str, rule: str) -> None:
        finding = f"{rule} {where}"
        if finding not in self.findings:
            self.findings.append(finding)


def _matching(scope: Sequence[Segment], path: Path) -> Iterator[Segment]:
    for segment in scope:
        if segment.name == path.segment and (
            not path.codes or any(segment.text(3, n).casefold() in path.codes for n in (1, 2, 4, 5))
        ):
            yield segment


def _text(segment: Segment, path: Path) -> str:
    repetition = segment.repetitions(path.field)[0]
    if path.component is not None:
        return repetition.text(path.component, path.subcomponent or 1)
    return "^".join(part.strip() for part in repetition.components).rstrip("^")


def _identifier(text: str) -> str:
    """Without what no value may hold; a backslash would make two of it."""
    return "".join(c for c in text.replace("\\", "/") if c.isprintable()).strip()


def _first(attributes: Attributes, keyword: str) -> str:
    return str(next(iter(attributes.get(tag_of(keyword), {}).get("Value", ())), ""))


def _place(where: str) -> tuple[str, int]:
    segment, _, number = where.partition("-")
    return segment, int(number)
