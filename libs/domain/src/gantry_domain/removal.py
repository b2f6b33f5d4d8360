"""Attributes that a destination does not get: by keyword, by tag as PS3.6 writes them, or private.

PatientComments      0010,4000      60xx,3000      0029,xxxx      private
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gantry_domain.dictionary import KEYWORDS
from gantry_domain.edited_data_set import Edit, Editor, Ranges, Rewrite
from gantry_domain.elements import Walk
from gantry_domain.value_representations import PIXEL_DATA_TAGS, SPECIFIC_CHARACTER_SET

PRIVATE = "private"
_TAG = re.compile(r"\(?([0-9A-Fa-fx]{4}),([0-9A-Fa-fx]{4})\)?")

# Without these nobody knows what it is, or how its pixels are to be read.
_NEEDED = (
    {
        KEYWORDS[keyword]: keyword
        for keyword in """
        SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID SamplesPerPixel
        PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns BitsAllocated
        BitsStored HighBit PixelRepresentation
    """.split()
    }
    | dict.fromkeys(PIXEL_DATA_TAGS, "the pixels")
    | {SPECIFIC_CHARACTER_SET: "SpecificCharacterSet"}
)


@dataclass(frozen=True, slots=True)
class Removal:
    """An `Editor` that leaves attributes out, at any depth; the rest is what `rest` says.

    `patterns`: (mask, tag), where the bits of the mask have to be those of the tag. `private`: all
    private ones besides.
    """

    patterns: tuple[tuple[int, int], ...] = ()
    private: bool = False
    rest: Editor | None = None

    @property
    def own(self) -> Mapping[int, bytes]:
        """See `Editor`."""
        return MappingProxyType({}) if self.rest is None else self.rest.own

    def value(self, tag: int, vr: str, length: int) -> Edit | Rewrite:
        """See `Editor`."""
        if self.takes(tag):
            return Edit.LEAVE_OUT
        return Edit.KEEP if self.rest is None else self.rest.value(tag, vr, length)

    def sequence(self, tag: int) -> Edit:
        """See `Editor`."""
        if self.takes(tag):
            return Edit.LEAVE_OUT
        return Edit.KEEP if self.rest is None else self.rest.sequence(tag)

    def fragments(self, tag: int) -> Edit:
        """See `Editor`."""
        if self.takes(tag):
            return Edit.LEAVE_OUT
        return Edit.KEEP if self.rest is None else self.rest.fragments(tag)

    def blanked(self, walk: Walk, offset: int, length: int) -> Ranges:
        """See `Editor`."""
        return () if self.rest is None else self.rest.blanked(walk, offset, length)

    def takes(self, tag: int) -> bool:
        """Whether an attribute is left out."""
        if self.private and tag >> 16 & 1:
            return True
        return any(tag & mask == wanted for mask, wanted in self.patterns)


def parse_removal(names: Iterable[str]) -> Removal:
    """Raises `ValueError`, with the name, for what is no attribute or has to stay."""
    patterns = []
    private = False
    for name in names:
        if name == PRIVATE:
            private = True
            continue
        mask, wanted = _pattern(name)
        for tag, needed in _NEEDED.items():
            if tag & mask == wanted:
                raise ValueError(f"{name} cannot be removed: {needed} has to be there")
        patterns.append((mask, wanted))
    return Removal(tuple(patterns), private)


def _pattern(name: str) -> tuple[int, int]:
    match = _TAG.fullmatch(name)
    if match is not None:
        digits = match[1] + match[2]
        mask = "".join("0" if digit == "x" else "f" for digit in digits)
        return int(mask, 16), int(digits.replace("x", "0"), 16)
    tag = KEYWORDS.get(name)
    if tag is None:
        raise ValueError(
            f"{name} is no attribute: write a keyword of PS3.6, a tag such as 0010,4000 or "
            f"60xx,3000, or {PRIVATE}"
        )
    return 0xFFFFFFFF, tag
