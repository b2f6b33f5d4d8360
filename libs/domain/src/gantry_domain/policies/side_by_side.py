"""A study beside the orders that may be its own, key by key: what a person looks at who decides."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gantry_domain.policies import hkid
from gantry_domain.policies.evidence import Evidence
from gantry_domain.policies.findings import Action
from gantry_domain.policies.major_keys import MAJOR_KEYS, Agreement, compare_keys
from gantry_domain.policies.matching import Order
from gantry_domain.policies.patient_identity import PatientIdentity

_NUMBERS = ("AccessionNumber", "StudyInstanceUID")
_DAYS = 7


@dataclass(frozen=True, slots=True)
class Candidate:
    """An order that may be the study's.

    `why`: by what it was found, or that it only is the same patient's at about the same time.
    """

    order: Order
    why: str
    agreements: dict[str, Agreement]


def candidates(evidence: Evidence, suggested: Iterable[Order]) -> list[Candidate]:
    """The orders, first the one that the study belongs to, then the others, then suggestions."""
    match = PatientIdentity(Action.WARN).match(evidence)
    found: dict[str, Candidate] = {}
    if match.order is not None and match.found is not None:
        found[match.order.StudyInstanceUID] = _candidate(evidence, match.order, match.found.value)
    for order in evidence.orders:
        found.setdefault(
            order.StudyInstanceUID, _candidate(evidence, order, "it has one of its numbers")
        )
    for order in suggested:
        found.setdefault(
            order.StudyInstanceUID,
            _candidate(evidence, order, "suggested: the same patient, about then"),
        )
    return list(found.values())


def _candidate(evidence: Evidence, order: Order, why: str) -> Candidate:
    numbers = {
        keyword: _number(getattr(evidence, keyword), getattr(order, keyword))
        for keyword in _NUMBERS
    }
    return Candidate(order, why, {**compare_keys(evidence.keys, order.keys), **numbers})


def _number(ours: str, theirs: str) -> Agreement:
    if not theirs:
        return Agreement.NOT_TOLD
    if not ours:
        return Agreement.MISSING
    return Agreement.AGREES if ours == theirs else Agreement.DIFFERS


def rows(evidence: Evidence, found: Sequence[Candidate]) -> list[tuple[str, ...]]:
    """A row for each key and number: its keyword, the study's value, and each order's with what
    comparing it says."""
    return [
        (
            keyword,
            _shown(getattr(evidence, keyword)),
            *(
                f"{_shown(_value(each.order, keyword))} ({each.agreements[keyword].value})"
                for each in found
            ),
        )
        for keyword in (*MAJOR_KEYS, *_NUMBERS)
    ]


def _value(order: Order, keyword: str) -> str:
    return str(getattr(order if keyword in _NUMBERS else order.keys, keyword))


def _shown(value: str) -> str:
    return value or "-"


def identifiers_to_suggest_by(evidence: Evidence) -> list[str]:
    """In which forms the patient may be known to orders."""
    identifier = evidence.PatientID
    forms = {identifier, hkid.normalise(identifier)}
    if hkid.classify(identifier) is hkid.HkidForm.VALID:
        body = hkid.canonical(identifier)
        check = hkid.check_character(body)
        forms |= {f"{body}({check})", f"{body}{check}", body}
    return sorted(form for form in forms if form)


def days_to_suggest_from(evidence: Evidence) -> tuple[str, str] | None:
    """The first and the last day (YYYYMMDD) about the study's date; None: it has none."""
    try:
        day = datetime.strptime(evidence.StudyDate, "%Y%m%d")  # noqa: DTZ007 - a date alone
    except ValueError:
        return None
    span = timedelta(days=_DAYS)
    return f"{day - span:%Y%m%d}", f"{day + span:%Y%m%d}"
