"""The heading of a table of SOP classes: which column says what."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gantry_domain.conformance.model import Role
from gantry_domain.conformance.rows import Row

_NO = frozenset({"no", "n", "-", "", "n/a", "not supported", "false", "0"})


@dataclass(frozen=True, slots=True)
class Columns:
    """The places of the columns that are known, of `count`."""

    places: Mapping[str, int]
    count: int

    def cell(self, row: Row, column: str) -> str:
        """What a row says in a column; nothing where there is none."""
        place = self.places.get(column)
        return "" if place is None else row.cells[place]

    def roles(self, row: Row, usual: Sequence[Role | None]) -> Iterator[tuple[Role | None, bool]]:
        """The roles that a row speaks of, and whether they are supported."""
        supported = "supported" not in self.places or not _negative(self.cell(row, "supported"))
        if "scu" in self.places or "scp" in self.places:
            for role in Role:
                if role.value.lower() in self.places:
                    yield role, not _negative(self.cell(row, role.value.lower()))
            return
        said = [role for role in Role if role.value in self.cell(row, "role").upper()]
        if "not supported" in self.cell(row, "syntaxes"):
            supported = False
        for each in said or usual:
            yield each, supported


def columns_of(cells: Sequence[str]) -> Columns | None:
    """The columns, if these cells are the heading of such a table."""
    places: dict[str, int] = {}
    for place, cell in enumerate(cells):
        column = _column(cell.lower().strip("* "))
        if column is not None:
            places.setdefault(column, place)
    # A name alone may be that of anything: of a status, of a parameter.
    if "name" not in places or len(places) < 2:
        return None
    return Columns(places, len(cells))


def _column(heading: str) -> str | None:
    if heading in ("scu", "scp", "role", "supported", "uid"):
        return heading
    if heading.startswith("user of"):
        return None
    if "uid" in heading:
        return "uid"
    if "transfer syntax" in heading:
        return "syntaxes"
    if heading.startswith(("sop class", "name")):
        return "name"
    return None


def _negative(cell: str) -> bool:
    return cell.strip().lower() in _NO
