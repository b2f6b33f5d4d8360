"""Which instance is arriving: the identifying elements in the first bytes of a data set.

For the front door, which must refuse by name what cannot be filed while it has seen only a bounded
beginning of what it stores. Never raises: the bytes are a stranger's.
"""

from dataclasses import dataclass

from gantry_domain.elements import (
    ELEMENT,
    FRAGMENTS_START,
    SEQUENCE_END,
    SEQUENCE_START,
    Walk,
    encoding_of,
)
from gantry_domain.errors import UnreadableObject
from gantry_domain.sources import Inflated, Window, fetch_from
from gantry_domain.transfer_syntaxes import DEFLATED

_SOP_CLASS = 0x00080016
_SOP_INSTANCE = 0x00080018
_PATIENT_ID = 0x00100020
_STUDY = 0x0020000D
_SERIES = 0x0020000E
_KEYWORDS = {
    _SOP_CLASS: "SOPClassUID",
    _SOP_INSTANCE: "SOPInstanceUID",
    _STUDY: "StudyInstanceUID",
    _SERIES: "SeriesInstanceUID",
}
_WANTED = frozenset((*_KEYWORDS, _PATIENT_ID))
# More of a value is not looked at: no UID is longer than 64 (PS3.5 9.1), an over-long one is
# shown to be so by its first bytes.
_LONGEST = 256
# Of a deflated prefix: what it may become.
_INFLATED_PREFIX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Identification:
    """What the beginning of a data set says about its identity.

    A UID is its first value without padding, empty if the element is, None if it was not seen.
    `missing`: keywords of the UIDs that the data set certainly lacks, or has without a value: the
    walk has passed their place, or the data set is complete. `exhausted`: the prefix ended before
    all UIDs were seen or passed, so nothing is known of the others. `broken`: where the data set
    could not be followed (a reason of `gantry_domain.elements`), or `truncated`.
    """

    SOPClassUID: str | None
    SOPInstanceUID: str | None
    StudyInstanceUID: str | None
    SeriesInstanceUID: str | None
    has_patient_id: bool
    missing: tuple[str, ...]
    exhausted: bool
    broken: str | None


def identify(prefix: bytes, *, transfer_syntax: str, complete: bool) -> Identification:
    """Look for the UIDs in `prefix`, the first bytes of a data set (without file meta).

    `complete`: these are all its bytes. Elements out of order (against PS3.5 7.1) are found
    wherever they stand in the prefix; of a repeated one the first counts.
    """
    found: dict[int, str] = {}
    passed = 0
    broken: str | None = None
    cut = False
    walk = _walk(prefix, transfer_syntax=transfer_syntax, complete=complete)
    depth = 0
    try:
        for kind, tag, _, offset, length in walk:
            if kind == ELEMENT:
                if depth:
                    continue
                if tag > passed:  # noqa: PLR1730 - quicker than max, for each element
                    passed = tag
                if tag in _WANTED and tag not in found:
                    wanted = min(length, _LONGEST)
                    value = walk.window.read(offset, wanted)
                    if len(value) < wanted:
                        cut = True
                        break
                    found[tag] = value.split(b"\\")[0].strip(b"\0 ").decode("latin-1")
            elif kind in (SEQUENCE_START, FRAGMENTS_START):
                if not depth:
                    passed = max(passed, tag)
                depth += 1
                walk.skip_sequence()
            elif kind == SEQUENCE_END:
                depth -= 1
            if passed > _SERIES and len(found) == len(_WANTED):
                break
    except UnreadableObject as error:
        broken = error.reason
    broken = broken or walk.broken
    if complete and (cut or walk.truncated):
        broken = broken or "truncated"
    missing = tuple(
        keyword
        for tag, keyword in _KEYWORDS.items()
        if not found.get(tag) and (complete or tag in found or passed > tag)
    )
    return Identification(
        SOPClassUID=found.get(_SOP_CLASS),
        SOPInstanceUID=found.get(_SOP_INSTANCE),
        StudyInstanceUID=found.get(_STUDY),
        SeriesInstanceUID=found.get(_SERIES),
        has_patient_id=bool(found.get(_PATIENT_ID)),
        missing=missing,
        exhausted=any(tag not in found and passed < tag for tag in _KEYWORDS) and not complete,
        broken=broken,
    )


def _walk(prefix: bytes, *, transfer_syntax: str, complete: bool) -> Walk:
    explicit, little = encoding_of(transfer_syntax)
    fetch = fetch_from(prefix)
    if transfer_syntax in DEFLATED:
        inflated = Inflated(fetch, dataset_offset=0, limit=_INFLATED_PREFIX)
        return Walk(Window(inflated), start=0, end=None, explicit=explicit, little=little)
    end = len(prefix) if complete else None
    window = Window(fetch, first=prefix)
    return Walk(window, start=0, end=end, explicit=explicit, little=little)
