"""`gantry conformance lint` and `compare` on files, and what they say of files that are no use."""

from io import BytesIO
from pathlib import Path

import pytest
from openpyxl import Workbook, load_workbook
from pypdf import PdfWriter
from pypdf.generic import DictionaryObject, NameObject, StreamObject

from gantry_cli.conformance_files import show_comparison, show_findings
from gantry_cli.office_documents import office_rows, workbook_of
from gantry_domain.conformance.document import Table
from gantry_domain.conformance.model import Role
from gantry_domain.conformance.reading import read_rows
from gantry_domain.errors import GantryError

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED = "1.2.840.10008.5.1.4.1.1.2.1"
HEADING = "SOP Class Name,UID,SCU,SCP,Transfer Syntaxes\n"
MODALITY = f"{HEADING}CT Image Storage,{CT},Yes,No,Explicit VR Little Endian\n"
PACS = f"{HEADING}CT Image Storage,{CT},No,Yes,Implicit VR Little Endian\n"


def pdf(pages: list[list[tuple[int, int, str]]]) -> bytes:
    """A PDF with these texts at their places: x and y in points, from below."""
    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Courier"),
        }
    )
    for texts in pages:
        page = writer.add_blank_page(595, 842)
        content = StreamObject()
        content.set_data(
            b"".join(b"BT /F 8 Tf %d %d Td (%s) Tj ET\n" % (x, y, t.encode()) for x, y, t in texts)
        )
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F"): writer._add_object(font)})}
        )
        page[NameObject("/Contents")] = writer._add_object(content)
    stream = BytesIO()
    writer.write(stream)
    return stream.getvalue()


def workbook(*rows: tuple[object, ...]) -> bytes:
    book = Workbook()
    for row in rows:
        book.active.append(row)
    stream = BytesIO()
    book.save(stream)
    return stream.getvalue()


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    modality, pacs = tmp_path / "ct.csv", tmp_path / "pacs.csv"
    modality.write_text(MODALITY)
    pacs.write_text(PACS)
    return str(modality), str(pacs)


def test_findings_are_an_exit_status(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert show_findings(files[0]) == 1
    said = capsys.readouterr().out
    assert "line 2: missing_default_syntax" in said
    assert said.endswith("2 entries read, 0 lines not read, 2 findings\n")


def test_a_comparison_goes_to_a_file(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.csv"
    assert show_comparison(*files, None, form="csv", output=str(sheet)) == 0
    assert "Incompatible" in sheet.read_text()
    named = f"Scanner 1={files[0]}", f"PACS={files[1]}"
    assert show_comparison(*named, None, form="csv", output=str(sheet)) == 0
    assert ",Scanner 1,PACS,Incompatible," in sheet.read_text()
    assert "1 Incompatible; something has to change" in capsys.readouterr().err


def test_a_workbook_of_a_comparison(files: tuple[str, str], tmp_path: Path) -> None:
    book = tmp_path / "sheet.xlsx"
    assert show_comparison(*files, None, form="xlsx", output=str(book)) == 0
    summary, heading, row = load_workbook(book)["SOP classes"].iter_rows(values_only=True)
    assert "1 Incompatible" in summary[0]
    assert dict(zip(heading, row, strict=True))["Verdict"] == "Incompatible"
    with pytest.raises(GantryError, match="name a file by --output"):
        show_comparison(*files, None, form="xlsx", output=None)


def test_what_looks_like_a_formula_is_a_text() -> None:
    table = Table("T", ("A", "B"), (("=1+1", "bell\a"),))
    book = load_workbook(BytesIO(workbook_of([table], summary="=2+2")))
    cells = [cell for row in book["T"].iter_rows() for cell in row if cell.value]
    assert [cell.value for cell in cells] == ["=2+2", "A", "B", "=1+1", "bell"]
    assert {cell.data_type for cell in cells} == {"s"}


WORKBOOK = workbook(
    ("CT of a hospital",),
    (),
    ("SOP Class Name", "UID", "SCU", "SCP", "Transfer Syntaxes"),
    ("Enhanced CT Image Storage", ENHANCED, "Yes", "No", "Explicit VR Little Endian"),
    ("Something Else", None, "Yes", "No", None),
)
PRINTED = pdf(
    [
        [(50, 800, "3.1 As it is printed"), (50, 780, "SOP Class Name"), (200, 780, "UID"),
         (350, 780, "SCU"), (400, 780, "SCP")],
        [(50, 800, "Enhanced"), (200, 800, ENHANCED), (350, 800, "Yes"), (400, 800, "No"),
         (50, 790, "CT Image Storage"),
         (50, 770, "Something Else"), (350, 770, "Yes"), (400, 770, "No")],
    ]
)  # fmt: skip


@pytest.mark.parametrize(("content", "line"), [(WORKBOOK, 4), (PRINTED, 3)], ids=["xlsx", "pdf"])
def test_documents_of_office_programs(content: bytes, line: int) -> None:
    rows = office_rows(content)
    assert rows is not None
    statement = read_rows(rows, name="x").statement
    assert [
        (each.uid, each.name, each.role, each.supported, each.found and each.found.line)
        for each in statement.supports()
    ] == [
        (ENHANCED, "Enhanced CT Image Storage", Role.SCU, True, line),
        (ENHANCED, "Enhanced CT Image Storage", Role.SCP, False, line),
    ]
    assert office_rows(MODALITY.encode()) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"%PDF-1.4", "cannot be read as a PDF"),
        (b"PK\x03\x04", "cannot be read as XLSX"),
        (pdf([[]]), "there is no text in it: pages that were scanned"),
        (b"nothing of the kind", "no SOP class was found"),
        (b"{}", "no statement of ours"),
    ],
)
def test_what_is_no_statement(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "x"
    file.write_bytes(content)
    with pytest.raises(GantryError, match=said):
        show_findings(str(file))
    with pytest.raises(GantryError, match="cannot be read"):
        show_findings(str(tmp_path / "none"))


def test_a_column_that_is_not_there(files: tuple[str, str]) -> None:
    with pytest.raises(GantryError, match="has no column RIS"):
        show_comparison(files[0], f"{files[1]}#RIS", None, form="csv", output=None)
