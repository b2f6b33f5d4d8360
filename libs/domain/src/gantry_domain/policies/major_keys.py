"""The four major keys of a patient, and whether those of a study and of an order agree.

Compared are normal forms; what is stored is never rewritten by it.

    PatientID          card numbers however they are written; others without blanks and case
    PatientName        the English one: `CHAN^TAI MAN`, `Chan, Tai-man` and `TAI MAN CHAN` agree
    PatientBirthDate   what both know of it: `19500000` agrees with `19500312`
    PatientSex         M, F or O
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from gantry_domain.names import GROUP_SEPARATOR
from gantry_domain.policies import hkid

MAJOR_KEYS = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")

_NAME_COMPONENTS = 3  # family, given and middle name; prefix and suffix are titles (PS3.5 6.2.1.1)
_APOSTROPHES = str.maketrans(dict.fromkeys("'`\u2018\u2019\u02bc", ""))
_DATE = re.compile(r"([0-9]{4})([0-9]{2})?([0-9]{2})?")
_SEXES = {"M": "M", "F": "F", "O": "O", "A": "O", "N": "O"}  # A and N: HL7 Table 0001


class Agreement(Enum):
    """What comparing one key says."""

    AGREES = "agrees"
    DIFFERS = "differs"
    MISSING = "missing"
    """The order knows it, the study does not."""
    NOT_TOLD = "not told"
    """The order does not know it: nothing speaks against the study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MajorKeys:
    """The keys as they are stored, or empty; a name has `=` between its component groups."""

    PatientID: str = ""
    IssuerOfPatientID: str = ""
    PatientName: str = ""
    PatientBirthDate: str = ""
    PatientSex: str = ""


def compare_keys(study: MajorKeys, order: MajorKeys) -> Mapping[str, Agreement]:
    """What each of the four keys says, by keyword."""
    return {
        "PatientID": _identifiers(study, order),
        "PatientName": _names(study.PatientName, order.PatientName),
        "PatientBirthDate": _dates(study.PatientBirthDate, order.PatientBirthDate),
        "PatientSex": _alike(_sex(study.PatientSex), _sex(order.PatientSex)),
    }


def _alike(study: str, order: str) -> Agreement:
    if not order:
        return Agreement.NOT_TOLD
    if not study:
        return Agreement.MISSING
    return Agreement.AGREES if study == order else Agreement.DIFFERS


def _identifiers(study: MajorKeys, order: MajorKeys) -> Agreement:
    ours, theirs = hkid.canonical(study.PatientID), hkid.canonical(order.PatientID)
    issuers = study.IssuerOfPatientID.strip(), order.IssuerOfPatientID.strip()
    # Identity card numbers are the same whoever tells them; numbers of two hospitals are not.
    cards = hkid.classify(study.PatientID) is not hkid.HkidForm.OTHER
    if ours and theirs and not cards and all(issuers) and issuers[0] != issuers[1]:
        return Agreement.DIFFERS
    return _alike(ours, theirs)


def _names(study: str, order: str) -> Agreement:
    """English names where both have one, else Chinese ones."""
    ours, theirs = _english(study), _english(order)
    if ours and theirs:
        return Agreement.AGREES if _forms(ours) & _forms(theirs) else Agreement.DIFFERS
    chinese = _chinese(study), _chinese(order)
    if all(chinese):
        return Agreement.AGREES if chinese[0] == chinese[1] else Agreement.DIFFERS
    if not theirs and not chinese[1]:
        return Agreement.NOT_TOLD
    # A Chinese name against an English one: nobody can tell.
    return Agreement.DIFFERS if ours or chinese[0] else Agreement.MISSING


def chinese_names_differ(study: str, order: str) -> bool:
    """Whether both have a Chinese name, and not the same: worth a look, and no key by itself."""
    ours, theirs = _chinese(study), _chinese(order)
    return bool(ours and theirs and ours != theirs)


def _english(name: str) -> list[list[str]]:
    """The words of each component of the first group that are written in letters."""
    group = name.split(GROUP_SEPARATOR, maxsplit=1)[0]
    components = (_words(part) for part in group.split("^")[:_NAME_COMPONENTS])
    return [words for words in components if words]


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text.translate(_APOSTROPHES)).casefold()
    kept = (" " if _is_han(c) or not c.isalnum() else c for c in plain if not _is_accent(c))
    return "".join(kept).split()


def _is_accent(character: str) -> bool:
    return unicodedata.category(character) == "Mn"


def _is_han(character: str) -> bool:
    return unicodedata.name(character, "").startswith("CJK ")


def _forms(components: list[list[str]]) -> set[str]:
    """The name as it is written, and with the family name at its other end; without blanks.

    What stands in a component of its own moves as a whole, else the first or the last word does.
    """
    if len(components) > 1:
        family = "".join(components[0])
        given = "".join(word for component in components[1:] for word in component)
        return {family + given, given + family}
    words = components[0]
    return {
        "".join(words),
        "".join([*words[1:], words[0]]),
        "".join([words[-1], *words[:-1]]),
    }


def _chinese(name: str) -> str:
    """The ideographs of the second group; of the first, where senders put them there."""
    groups = [*name.split(GROUP_SEPARATOR), ""]
    for group in (groups[1], groups[0]):
        found = "".join(c for c in unicodedata.normalize("NFKC", group) if _is_han(c))
        if found:
            return found
    return ""


def _dates(study: str, order: str) -> Agreement:
    ours, theirs = _known_parts(study), _known_parts(order)
    if not theirs:
        return Agreement.NOT_TOLD
    if not ours:
        return Agreement.MISSING
    same = all(a == b for a, b in zip(ours, theirs, strict=False))
    return Agreement.AGREES if same else Agreement.DIFFERS


def _known_parts(text: str) -> list[str]:
    """Year, month and day as far as they are known: zeros are not."""
    digits = re.sub(r"[.\-/\s]", "", unicodedata.normalize("NFKC", text))
    found = _DATE.fullmatch(digits)
    parts: list[str] = []
    for part in found.groups() if found else ():
        if part is None or not part.strip("0"):
            break
        parts.append(part)
    return parts


def _sex(text: str) -> str:
    return _SEXES.get(unicodedata.normalize("NFKC", text).strip().upper()[:1], "")
