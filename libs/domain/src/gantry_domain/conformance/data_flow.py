"""The application data flow diagram of a statement (PS3.2 A.4.1.1), as SVG.

local activity  <->  (entity)  <-->  remote activity
                                |
                      the DICOM standard interface
"""

from collections.abc import Iterator, Sequence
from html import escape
from textwrap import wrap

from gantry_domain.conformance.model import Entity, Role

_ROW, _WIDTH, _TOP = 92, 720, 34
_LINE = 14


def data_flow(entities: Sequence[Entity]) -> str:
    """The drawing: a row for each entity, the dashed line is the DICOM interface."""
    height = _TOP + _ROW * len(entities)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" font-family="sans-serif" font-size="12">',
        "<title>Application data flow</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="#24506e"/>'
        "</marker></defs>",
        f'<line x1="470" y1="24" x2="470" y2="{height - 6}" stroke="#777" stroke-dasharray="6 4"/>',
        '<text x="470" y="14" text-anchor="middle" fill="#555" font-size="11">'
        "DICOM standard interface</text>",
    ]
    for number, entity in enumerate(entities):
        parts += _row(entity, _TOP + number * _ROW)
    return "\n".join([*parts, "</svg>"])


def _row(entity: Entity, top: int) -> Iterator[str]:
    middle = top + _ROW // 2
    yield _box(8, top)
    yield _text(entity.activity, 96, middle)
    yield (
        f'<ellipse cx="320" cy="{middle}" rx="86" ry="34" fill="#e3edf4" stroke="#24506e" '
        'stroke-width="1.5"/>'
    )
    yield _text(entity.name, 320, middle, bold=True)
    yield _box(536, top)
    yield _text(entity.remote, 624, middle)
    yield _arrow(184, 234, middle)
    roles = {each.role for each in entity.supports}
    yield _arrow(406, 536, middle, back=Role.SCP in roles or not roles)


def _box(x: int, top: int) -> str:
    return (
        f'<rect x="{x}" y="{top + 12}" width="176" height="68" rx="4" fill="#f4f6f8" '
        'stroke="#888"/>'
    )


def _arrow(begin: int, end: int, y: int, *, back: bool = True) -> str:
    start = ' marker-start="url(#tip)"' if back else ""
    return (
        f'<line x1="{begin}" y1="{y}" x2="{end}" y2="{y}" stroke="#24506e" stroke-width="1.5" '
        f'marker-end="url(#tip)"{start}/>'
    )


def _text(text: str, x: int, middle: int, *, bold: bool = False) -> str:
    lines = wrap(text, 24) or [""]
    first = middle - (len(lines) - 1) * _LINE // 2 + 4
    spans = "".join(
        f'<tspan x="{x}" y="{first + n * _LINE}">{escape(line)}</tspan>'
        for n, line in enumerate(lines)
    )
    weight = ' font-weight="bold"' if bold else ""
    return f'<text text-anchor="middle"{weight}>{spans}</text>'
