"""The Hong Kong identity card number: its forms and its check digit, modulus 11.

The body is one or two letters and six digits; on the left it is filled to eight characters with a
blank worth 36. Digits count their value, A is 10 and Z is 35; the weights are 9 to 2; the check
character is (11 - sum mod 11) mod 11, and 10 is written A. (The variant with A worth 1 that skips
the blank agrees for numbers of one letter only.)
"""

import re
import unicodedata
from enum import Enum

_BODY = r"([A-Z]{1,2}[0-9]{6})"
_HKID = re.compile(_BODY + r"(?:\(([0-9A])\)|([0-9A]))")
_WITHOUT_CHECK = re.compile(_BODY)
# Somebody meant an identity card number: letters first and a check character in parentheses.
_MEANT = re.compile(r"[A-Z]{1,3}[0-9]*\(.?\)?")

_BLANK = 36
_WEIGHTS = range(9, 1, -1)


class HkidForm(Enum):
    """What an identifier is, read as an identity card number."""

    VALID = "valid"
    WRONG_CHECK_DIGIT = "wrong_check_digit"
    MALFORMED = "malformed"
    OTHER = "other"


def check_character(body: str) -> str:
    """The check character of a body such as `A123456` or `AB987654`."""
    values = [_BLANK] * (8 - len(body)) + [int(character, 36) for character in body]
    check = -sum(weight * value for weight, value in zip(_WEIGHTS, values, strict=True)) % 11
    return "A" if check == 10 else str(check)


def normalise(identifier: str) -> str:
    """`identifier` in NFKC, upper case, without blanks: what is compared, never what is stored."""
    return "".join(unicodedata.normalize("NFKC", identifier).upper().split())


def classify(identifier: str) -> HkidForm:
    """What `identifier` is: `A123456(3)`, `A1234563` and `A 123456 (3)` are the same number.

    Passports, birth certificates and hospital numbers are OTHER: no error.
    """
    text = normalise(identifier)
    match = _HKID.fullmatch(text)
    if match is not None:
        right = check_character(match[1]) == (match[2] or match[3])
        return HkidForm.VALID if right else HkidForm.WRONG_CHECK_DIGIT
    if _WITHOUT_CHECK.fullmatch(text) or _MEANT.fullmatch(text):
        return HkidForm.MALFORMED
    return HkidForm.OTHER


def canonical(identifier: str) -> str:
    """The form in which two identifiers are compared: a valid number of a card without its check
    character, which follows from the rest; any other as it is, normalised.
    """
    text = normalise(identifier)
    match = _HKID.fullmatch(text)
    if match is not None and check_character(match[1]) == (match[2] or match[3]):
        return match[1]
    return text
