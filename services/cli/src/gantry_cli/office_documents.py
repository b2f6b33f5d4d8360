"""What office programs write: XLSX and PDF as rows of text, and a comparison as XLSX."""

import re
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from io import BytesIO

from openpyxl import Workbook, load_workbook
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.properties import PageSetupProperties
from openpyxl.worksheet.worksheet import Worksheet
from pypdf import PdfReader

from gantry_domain.conformance.compatibility import Verdict
from gantry_domain.conformance.document import Table
from gantry_domain.conformance.rows import Row
from gantry_domain.errors import PermanentError

_PDF, _ZIP = b"%PDF-", b"PK\x03\x04"

# A statement is some hundred pages; more than this is none, or made to be large.
_MOST_BYTES = 256 * 2**20
_MOST_ROWS = 200_000
_MOST_PAGES = 3000

_GAP = re.compile(r"\s{2,}|\t")
_WIDEST = 48
_COLOURS = {
    Verdict.COMPATIBLE.value: "DDEFDD",
    Verdict.NOT_NEEDED.value: "EEEEEE",
    Verdict.INCOMPATIBLE.value: "F6D5D3",
    Verdict.NOT_STATED.value: "FBEFC9",
}


class UnreadableDocument(PermanentError):
    """A file that is no such document, or a broken, locked or empty one."""


def office_rows(content: bytes) -> list[Row] | None:
    """The rows of an XLSX or PDF file, None where it is neither. Raises `UnreadableDocument`."""
    if content.startswith(_PDF):
        return list(_numbered(_pdf_lines(content)))
    if content.startswith(_ZIP):
        return list(_numbered(_sheet_lines(content)))
    return None


def _numbered(lines: Iterator[list[str]]) -> Iterator[Row]:
    """From 1 on, over all sheets and pages; those that say nothing are counted, too."""
    for number, cells in enumerate(lines, start=1):
        if number > _MOST_ROWS:
            raise UnreadableDocument(f"it has more than {_MOST_ROWS} lines")
        if any(cells):
            yield Row(number, " ".join(filter(None, cells)), tuple(cells))


def _pdf_lines(content: bytes) -> Iterator[list[str]]:
    """Cells are told apart by the room between them."""
    empty = True
    try:
        reader = PdfReader(BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableDocument("it is locked by a password")
        for page in reader.pages[:_MOST_PAGES]:
            text = page.extract_text(extraction_mode="layout", layout_mode_space_vertically=False)
            for line in text.splitlines():
                empty = empty and not line.strip()
                # Of ligatures and other forms of letters, which fonts of PDFs like.
                plain = unicodedata.normalize("NFKC", line).strip()
                yield [cell.strip() for cell in _GAP.split(plain)]
    except UnreadableDocument:
        raise
    # The door to pypdf, which raises whatever a broken file makes it stumble over.
    except Exception as error:
        raise UnreadableDocument(f"it cannot be read as a PDF: {error}") from error
    if empty:
        raise UnreadableDocument("there is no text in it: pages that were scanned are pictures")


def _sheet_lines(content: bytes) -> Iterator[list[str]]:
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            if sum(each.file_size for each in archive.infolist()) > _MOST_BYTES:
                raise UnreadableDocument(f"it is larger than {_MOST_BYTES} bytes when unpacked")
        workbook = load_workbook(BytesIO(content), read_only=True, data_only=True)
        for sheet in workbook.worksheets:
            for row in sheet.iter_rows(values_only=True):
                cells = ["" if value is None else str(value).strip() for value in row]
                # A sheet may be wider than its table.
                while cells and not cells[-1]:
                    cells.pop()
                yield cells
    except UnreadableDocument:
        raise
    # The door to openpyxl, likewise.
    except Exception as error:
        raise UnreadableDocument(f"it cannot be read as XLSX: {error}") from error


def workbook_of(tables: Sequence[Table], *, summary: str) -> bytes:
    """An XLSX file: a sheet for each table, which can be filtered, and the summary above it."""
    workbook = Workbook()
    workbook.remove(workbook.worksheets[0])
    for table in tables:
        sheet = workbook.create_sheet(table.caption)
        _fill(sheet, table, summary)
    stream = BytesIO()
    workbook.save(stream)
    return stream.getvalue()


def _fill(sheet: Worksheet, table: Table, summary: str) -> None:
    rows = [(summary,), table.headings, *table.rows]
    for number, row in enumerate(rows, start=1):
        for place, text in enumerate(row, start=1):
            cell = sheet.cell(number, place, ILLEGAL_CHARACTERS_RE.sub("", text))
            cell.data_type = "s"  # whatever it looks like, it is no formula
            if number > 1:
                cell.alignment = Alignment(wrap_text=True, vertical="top")
            if number <= 2:
                cell.font = Font(bold=True)
            if text in _COLOURS:
                cell.fill = PatternFill("solid", fgColor=_COLOURS[text])
    for place, heading in enumerate(table.headings):
        longest = max(len(row[place]) for row in (table.headings, *table.rows))
        width = min(max(longest, len(heading)) + 2, _WIDEST)
        sheet.column_dimensions[get_column_letter(place + 1)].width = width
    last = get_column_letter(len(table.headings))
    sheet.freeze_panes = "A3"
    sheet.auto_filter.ref = f"A2:{last}{len(table.rows) + 2}"
    sheet.print_title_rows = "2:2"
    sheet.page_setup.orientation = "landscape"
    sheet.page_setup.paperSize = sheet.PAPERSIZE_A4
    sheet.sheet_properties.pageSetUpPr = PageSetupProperties(fitToPage=True)
    sheet.page_setup.fitToHeight = 0
