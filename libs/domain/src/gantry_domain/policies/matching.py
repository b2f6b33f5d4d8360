"""Which order a study belongs to, and whether the patient of both is the same.

    linked by a person ─▶ same accession number ─▶ same Study Instance UID

The first of these that finds an order decides; orders of the same patient at the same time only
suggest.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gantry_domain.policies.major_keys import Agreement, MajorKeys, compare_keys

_SPEAKS_AGAINST = (Agreement.DIFFERS, Agreement.MISSING)


class Found(StrEnum):
    """By what an order was found."""

    LINK = "a person's link"
    ACCESSION = "accession number"
    STUDY_UID = "study UID"


class MatchState(StrEnum):
    """What becomes of comparing a study with its order."""

    MATCHED = "MATCHED"
    UNMATCHED = "UNMATCHED"
    NO_ORDER = "NO ORDER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order as far as it is compared. Its Study Instance UID is what a link names."""

    StudyInstanceUID: str
    AccessionNumber: str = ""
    keys: MajorKeys = field(repr=False)


@dataclass(frozen=True, slots=True)
class Match:
    """The order of a study, by what it was found, and what each compared key says."""

    order: Order | None = None
    found: Found | None = None
    agreements: Mapping[str, Agreement] = field(default_factory=dict)

    @property
    def against(self) -> tuple[str, ...]:
        """The keys that speak against it."""
        return tuple(key for key, said in self.agreements.items() if said in _SPEAKS_AGAINST)

    @property
    def state(self) -> MatchState:
        """Whether the keys agree; a link does not make up for them."""
        if self.order is None:
            return MatchState.NO_ORDER
        return MatchState.UNMATCHED if self.against else MatchState.MATCHED


def match_order(
    keys: MajorKeys,
    orders: Iterable[Order],
    *,
    AccessionNumber: str,
    StudyInstanceUID: str,
    linked: str = "",
    compared: Iterable[str],
) -> Match:
    """The order of a study with these keys. `linked`: the Study Instance UID of the one that a
    person named; `compared`: which of the major keys count.

    Of several with one accession number that counts which agrees best.
    """
    orders = sorted(orders, key=lambda order: order.StudyInstanceUID)
    ways = (
        (Found.LINK, linked),
        (Found.ACCESSION, AccessionNumber),
        (Found.STUDY_UID, StudyInstanceUID),
    )
    compared = tuple(compared)
    for found, value in ways:
        matches = [
            Match(order, found, _compared(keys, order, compared))
            for order in orders
            if value and value == _number(order, found)
        ]
        if matches:
            return min(matches, key=lambda match: len(match.against))
    return Match()


def _number(order: Order, found: Found) -> str:
    return order.AccessionNumber if found is Found.ACCESSION else order.StudyInstanceUID


def _compared(keys: MajorKeys, order: Order, compared: tuple[str, ...]) -> dict[str, Agreement]:
    said = compare_keys(keys, order.keys)
    return {key: said[key] for key in compared}
