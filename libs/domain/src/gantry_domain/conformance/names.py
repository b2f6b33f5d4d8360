"""SOP classes and transfer syntaxes found by name, as people write them and misspell them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from enum import Enum
from functools import cache

from gantry_domain.conformance.registry import Service, class_name, service_of
from gantry_domain.dictionary import UIDS
from gantry_domain.sop_classes import STORAGE_CLASSES
from gantry_domain.transfer_syntaxes import TRANSFER_SYNTAXES

# Words that statements leave out or add.
_SILENT = frozenset(
    "sop class storage image retired draft trial model information the for of and service "
    "standalone document s d".split()
)
_MISSPELT_OFTEN = ("storage", "image")
_ONE_WORD = (
    (r"x[\s-]?ray", "xray"),
    (r"multi[\s-]?frame", "multiframe"),
    (r"intra[\s-]?oral", "intraoral"),
    (r"bi[\s-]?plane", "biplane"),
    (r"twelve[\s-]?lead|12[\s-]?lead", "12lead"),
    (r"(\d+)[\s-]?bit", r"\1bit"),
    (r"multi[\s-]?planar", "multiplanar"),
    (r"grey", "gray"),
    (r"colour", "color"),
    (r"nuclear medicine", "nm"),
    (r"positron emission tomography", "pet"),
    (r"ultra[\s-]?sound", "us"),
    (r"computed tomography", "ct"),
    (r"magnetic resonance", "mr"),
    (r"work[\s-]?list", "worklist"),
    (r"query/retrieve", ""),
    (r"modality performed procedure step \(mpps\)|\bmpps\b", "modality performed procedure step"),
    (r"computer[\s-]?aided detection", "cad"),
)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=\d+Bit)")
_WORD = re.compile(r"[a-z0-9]+")

_ALIKE = 0.72  # of two names that may be one misspelt


class Agreement(Enum):
    """How a name goes with a UID."""

    SAME = "same"
    MISSPELT = "misspelt"
    OTHER = "other"
    """It is the name of another class."""


@dataclass(frozen=True, slots=True)
class Named:
    """A class found by its name, and how sure that is, from 0 to 1."""

    uid: str
    confidence: float


def agreement(name: str, uid: str) -> tuple[Agreement, str | None]:
    """How a name goes with a UID, and the UID of the class whose name it is, if another's."""
    words = _words(name)
    if not words or words in _spellings(uid):
        return Agreement.SAME, None
    other = _by_words().get(words)
    if other is not None and other != uid:
        return Agreement.OTHER, other
    # What a private class is called, its vendor knows.
    return (Agreement.MISSPELT if is_class(uid) else Agreement.SAME), None


def class_named(name: str) -> Named | None:
    """The class of a name; None where no class, or more than one, may be meant."""
    words = _words(name)
    if not words:
        return None
    exact = _by_words().get(words)
    if exact is not None:
        return Named(exact, 0.9)
    text = " ".join(sorted(words))
    scored = sorted(
        (
            (SequenceMatcher(None, text, " ".join(sorted(spelling))).ratio(), uid)
            for spelling, uid in _by_words().items()
        ),
        reverse=True,
    )
    (best, uid), (second, _other) = scored[:2]
    if best < _ALIKE or best - second < 0.02:
        return None
    return Named(uid, round(best * 0.8, 2))


def syntaxes_named(text: str) -> Iterator[str]:
    """The UIDs of the transfer syntaxes that a text names, in its order."""
    found: dict[str, int] = {}
    lowered = " ".join(text.lower().replace("-", " ").split())
    for uid, patterns in _SYNTAX_NAMES.items():
        for pattern in patterns:
            match = re.search(pattern, lowered)
            if match:
                found.setdefault(uid, match.start())
    return iter(sorted(found, key=lambda uid: found[uid]))


_SYNTAX_NAMES: Mapping[str, tuple[str, ...]] = {
    "1.2.840.10008.1.2": (r"implicit vr little endian", r"little ?endian ?implicit"),
    "1.2.840.10008.1.2.1": (r"explicit vr little endian", r"little ?endian ?explicit"),
    "1.2.840.10008.1.2.2": (r"explicit vr big endian", r"big ?endian ?explicit"),
    "1.2.840.10008.1.2.1.99": (r"deflated explicit",),
    "1.2.840.10008.1.2.4.50": (r"jpeg baseline", r"jpeg lossy"),
    "1.2.840.10008.1.2.4.51": (r"jpeg extended",),
    "1.2.840.10008.1.2.4.70": (r"jpeg lossless(?!.{0,30}process 14\))",),
    "1.2.840.10008.1.2.4.80": (r"jpeg ls lossless", r"jpeg ls(?! (?:lossy|near))"),
    "1.2.840.10008.1.2.4.81": (r"jpeg ls (?:lossy|near)",),
    "1.2.840.10008.1.2.4.90": (r"jpeg 2000 (?:image compression )?\(?lossless",),
    "1.2.840.10008.1.2.4.91": (r"jpeg 2000(?! (?:image compression )?\(?lossless)",),
    "1.2.840.10008.1.2.5": (r"\brle\b",),
}


def is_transfer_syntax(uid: str) -> bool:
    """Whether a UID is that of a transfer syntax."""
    return uid in TRANSFER_SYNTAXES or (uid in UIDS and UIDS[uid][1] == "Transfer Syntax")


def is_class(uid: str) -> bool:
    """Whether a UID is that of a SOP class that we know of."""
    return uid in STORAGE_CLASSES or (
        uid in UIDS and UIDS[uid][1] in ("SOP Class", "Meta SOP Class")
    )


@cache
def _words(name: str) -> frozenset[str]:
    text = _CAMEL.sub(" ", name.replace("_", " ")).lower()
    for pattern, word in _ONE_WORD:
        text = re.sub(pattern, word, text)
    return frozenset(word for word in _WORD.findall(text) if not _silent(word))


def _silent(word: str) -> bool:
    return word in _SILENT or (
        len(word) > 4 and bool(get_close_matches(word, _MISSPELT_OFTEN, n=1, cutoff=0.8))
    )


@cache
def _spellings(uid: str) -> frozenset[frozenset[str]]:
    """The names of a class: that of PS3.6, and its keyword."""
    names = [class_name(uid)]
    if uid in UIDS:
        names += [UIDS[uid][0], UIDS[uid][4]]
    return frozenset(map(_words, names))


@cache
def _by_words() -> Mapping[frozenset[str], str]:
    """By the words of their names; where an old and a new class share them, the one in use."""
    known = dict.fromkeys(
        [
            *STORAGE_CLASSES,
            *(uid for uid, entry in UIDS.items() if entry[1] == "SOP Class"),
        ]
    )
    found: dict[frozenset[str], str] = {}
    for uid in sorted(known, key=_in_use):
        for spelling in _spellings(uid):
            if spelling:
                found.setdefault(spelling, uid)
    return found


def _in_use(uid: str) -> tuple[bool, bool, str]:
    retired = uid in UIDS and UIDS[uid][3] == "Retired"
    return retired, service_of(uid) is Service.OTHER, uid
