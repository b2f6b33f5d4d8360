"""The heading of a table of SOP classes: which column says what."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gantry_domain.conformance.model import Role
from gantry_domain.conformance.rows import Row

# A column for a role of some entity, such as "Storage AE as SCU".
_AS_ROLE = re.compile(r"(?:.* as )?\(?(sc[up])\)?")
_NO = frozenset({"no", "n", "-", "", "n/a", "not supported", "false", "0"})


@dataclass(frozen=True, slots=True)
class Columns:
    """The places of the columns that are known, of `count`; for a role there may be several."""

    places: Mapping[str, int]
    roles_at: Sequence[tuple[Role, int]]
    count: int

    def cell(self, row: Row, column: str) -> str:
        """What a row says in a column; nothing where there is none."""
        place = self.places.get(column)
        return "" if place is None else row.cells[place]

    def roles(
        self, row: Row, usual: Sequence[Role | None]
    ) -> Iterator[tuple[Role | None, bool, str]]:
        """The roles that a row speaks of, whether they are supported, and in which syntaxes."""
        syntaxes = self.cell(row, "syntaxes")
        supported = "supported" not in self.places or not _negative(self.cell(row, "supported"))
        if self.roles_at:
            for role in Role:
                cells = [row.cells[place] for each, place in self.roles_at if each is role]
                if cells:
                    yes = [cell for cell in cells if not _negative(cell)]
                    yield role, bool(yes), ", ".join(filter(None, (syntaxes, *yes)))
            return
        said = [role for role in Role if role.value in self.cell(row, "role").upper()]
        if "not supported" in syntaxes:
            supported = False
        for each in said or usual:
            yield each, supported, syntaxes


def columns_of(cells: Sequence[str]) -> Columns | None:
    """The columns, if these cells are the heading of such a table."""
    places: dict[str, int] = {}
    roles_at: list[tuple[Role, int]] = []
    for place, cell in enumerate(cells):
        heading = cell.lower().strip("* ")
        column, role = _column(heading), _AS_ROLE.fullmatch(heading)
        if role is not None:
            roles_at.append((Role(role[1].upper()), place))
        elif column is not None:
            places.setdefault(column, place)
    # A name alone may be that of anything: of a status, of a parameter.
    if "name" not in places or len(places) + len(roles_at) < 2:
        return None
    return Columns(places, roles_at, len(cells))


def _column(heading: str) -> str | None:
    if heading in ("role", "supported", "uid"):
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
