"""The lines of a document as rows of cells: CSV, Markdown, HTML, and the text of a PDF."""

import csv
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

_HTML = re.compile(r"\s*(<!doctype html|<html|<table)", re.IGNORECASE)
_RULE = re.compile(r"[\s|:-]+")


@dataclass(frozen=True, slots=True)
class Row:
    """One line (from 1) as it stands, and its cells: one where it is no table's."""

    line: int
    text: str
    cells: tuple[str, ...]


def rows_of(text: str) -> list[Row]:
    """The rows that say anything."""
    if _HTML.match(text):
        return _of_html(text)
    lines = text.splitlines()
    if _is_csv(lines):
        return [
            Row(number, ", ".join(cells), tuple(each.strip() for each in cells))
            for number, cells in enumerate(csv.reader(lines), start=1)
            if any(cells)
        ]
    return [
        Row(number, line.strip(), cells)
        for number, line in enumerate(lines, start=1)
        if line.strip() and (cells := _cells(line))
    ]


def _is_csv(lines: list[str]) -> bool:
    first = next((line for line in lines if line.strip()), "")
    return first.count(",") > 0 and ("uid" in first.lower() or "sop class" in first.lower())


def _cells(line: str) -> tuple[str, ...]:
    stripped = line.strip()
    if stripped.startswith("|"):
        if _RULE.fullmatch(stripped):
            return ()
        parts = re.split(r"(?<!\\)\|", stripped.strip("|"))
        return tuple(re.sub(r"\\([\\`*_\[\]<>#|])", r"\1", part).strip() for part in parts)
    return tuple(part.strip() for part in line.split("\t"))


@dataclass
class _Rows(HTMLParser):
    """Rows of tables, and the text between them."""

    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._cells: list[str] | None = None
        self._text: list[str] = []
        self._skipping = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("style", "script", "svg"):
            self._skipping += 1
        elif tag == "tr":
            self._flush()
            self._cells = []
        elif tag in _BLOCKS:
            self._flush()

    def handle_endtag(self, tag: str) -> None:
        if tag in ("style", "script", "svg"):
            self._skipping -= 1
        elif tag in ("td", "th") and self._cells is not None:
            self._cells.append(self._taken())
        elif tag == "tr" and self._cells is not None:
            if any(self._cells):
                line, _ = self.getpos()
                self.rows.append(Row(line, " ".join(self._cells), tuple(self._cells)))
            self._cells = None
        elif tag in _BLOCKS:
            self._flush()

    def handle_data(self, data: str) -> None:
        if not self._skipping:
            self._text.append(data)

    def _taken(self) -> str:
        text, self._text = " ".join("".join(self._text).split()), []
        return text

    def _flush(self) -> None:
        if self._cells is None and (text := self._taken()):
            line, _ = self.getpos()
            self.rows.append(Row(line, text, (text,)))


_BLOCKS = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "li", "caption", "div", "title"})


def _of_html(text: str) -> list[Row]:
    parser = _Rows()
    parser.feed(text)
    parser.close()
    return parser.rows
