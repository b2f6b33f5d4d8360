"""What an installation decides of how its messages are read."""

from collections.abc import Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from gantry_domain.hl7.mapping import Mapped, of_place
from gantry_domain.orders.attributes import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class StationRule:
    """Which stations may perform the steps of a modality, in a room; None: of any."""

    ae_titles: tuple[str, ...]
    modality: str | None = None
    location: str | None = None

    def fits(self, modality: str, location: str) -> bool:
        """Whether it is for a step of this modality in this room."""
        return (self.modality is None or self.modality == modality) and (
            self.location is None or self.location == location
        )


class Rules:
    """How messages become orders.

    `ignored`: types that are acknowledged and have no effect, such as ORU or ADT^A60. Of several
    patient identifiers the one counts whose assigning authority and type code are these, and else
    the first.
    """

    def __init__(
        self,
        mapped: Mapped,
        *,
        zone: ZoneInfo,
        stations: tuple[StationRule, ...] = (),
        ignored: frozenset[str] = frozenset(),
        authority: str | None = None,
        identifier_type: str | None = None,
    ) -> None:
        self.mapped: Mapping[Place, Mapped] = {place: of_place(mapped, place) for place in Place}
        self.zone = zone
        self.stations = stations
        self.ignored = ignored
        self.authority = authority
        self.identifier_type = identifier_type

    def station_titles(self, modality: str, location: str) -> tuple[str, ...]:
        """The stations of a step for which nobody named one; empty: no rule is for it."""
        fitting = (rule for rule in self.stations if rule.fits(modality, location))
        return next((rule.ae_titles for rule in fitting), ())
