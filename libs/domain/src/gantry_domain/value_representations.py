"""The value representations (PS3.5 6.2, Table 7.1-1) and which one a tag has (PS3.6)."""

from functools import lru_cache

from gantry_domain.dictionary import VRS, repeating_vr

# Explicit VR: a length of 16 bits, or two reserved bytes and one of 32 (PS3.5 7.1.2).
SHORT_VRS = frozenset("AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
LONG_VRS = frozenset("OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
BINARY_VRS = frozenset("OB OD OF OL OV OW UN".split())

# Bytes that change places between little and big endian (PS3.5 7.3); AT is two numbers of 16 bits.
WORD_SIZES = {
    "US": 2, "SS": 2, "OW": 2, "AT": 2,
    "UL": 4, "SL": 4, "FL": 4, "OL": 4, "OF": 4,
    "FD": 8, "SV": 8, "UV": 8, "OD": 8, "OV": 8,
}  # fmt: skip

# Tags that structure a data set (PS3.5 7.5).
ITEM = 0xFFFEE000
ITEM_DELIMITATION = 0xFFFEE00D
SEQUENCE_DELIMITATION = 0xFFFEE0DD

SPECIFIC_CHARACTER_SET = 0x00080005
PIXEL_REPRESENTATION = 0x00280103
LUT_DESCRIPTOR = 0x00283002
LUT_DATA = 0x00283006
PIXEL_DATA = 0x7FE00010
# Pixel Data, Float Pixel Data, Double Float Pixel Data (PS3.3 C.7.6.3, C.7.6.24, C.7.6.25).
PIXEL_DATA_TAGS = frozenset((0x7FE00008, 0x7FE00009, PIXEL_DATA))

US_OR_SS = "US or SS"
US_OR_OW = "US or OW"


def vr_of(tag: int) -> str:
    """The VR that the data dictionary gives a tag; `UN` if it is private or unknown.

    Some need the data set to be decided: `US or SS` and `US or OW` are returned as such. The
    others that the dictionary leaves open are words in Implicit VR (PS3.5 A.1): `OW`.
    """
    vr = VRS.get(tag)
    if vr is None:
        return _rare_vr(tag)
    if " or " in vr and vr not in (US_OR_SS, US_OR_OW):
        return "OW"
    return vr


@lru_cache(maxsize=4096)
def _rare_vr(tag: int) -> str:
    group, element = tag >> 16, tag & 0xFFFF
    if element == 0:
        return "UL"  # group length, PS3.5 7.2
    if group % 2:
        return "LO" if 0x0010 <= element <= 0x00FF else "UN"  # private creators, PS3.5 7.8.1
    vr = repeating_vr(tag)
    if vr is None:
        return "UN"
    return "OW" if " or " in vr else vr
