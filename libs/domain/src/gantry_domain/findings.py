"""What is odd about an object: findings of its header, gathered while it is read."""

from dataclasses import dataclass

# Rules beside those of gantry_domain.charset and gantry_domain.json_model.
TRUNCATED = "truncated"
PIXEL_DATA_TRUNCATED = "pixel_data_truncated"
PIXEL_DATA_SHORT = "pixel_data_short"
DATA_SET_BROKEN = "data_set_broken"
TRANSFER_SYNTAX_MISMATCH = "transfer_syntax_mismatch"
VALUE_TOO_LONG = "value_too_long"
HEADER_TOO_LARGE = "header_too_large"
REPEATED_ELEMENT = "repeated_element"
ELEMENTS_OUT_OF_ORDER = "elements_out_of_order"

MAX_FINDINGS = 100


@dataclass(frozen=True, slots=True)
class HeaderFinding:
    """Something odd: a rule, the tag (8 hex digits, empty for the whole) and no patient data."""

    rule: str
    tag: str
    detail: str


class Findings:
    """The findings of one header: one for a rule and tag, and no more than 100 in all."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], HeaderFinding] = {}

    def report(self, rule: str, tag: int = 0, detail: str = "") -> None:
        """`tag` 0 is the whole object."""
        if len(self._found) < MAX_FINDINGS:
            key = f"{tag:08X}" if tag else ""
            self._found.setdefault((rule, tag), HeaderFinding(rule, key, detail))

    def all(self) -> tuple[HeaderFinding, ...]:
        """In the order in which they were first met."""
        return tuple(self._found.values())
