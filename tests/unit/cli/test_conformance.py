"""`gantry conformance lint` and `compare` on files, and what they say of files that are no use."""

from pathlib import Path

import pytest

from gantry_cli.conformance_files import show_comparison, show_findings
from gantry_domain.errors import GantryError

CT = "1.2.840.10008.5.1.4.1.1.2"
HEADING = "SOP Class Name,UID,SCU,SCP,Transfer Syntaxes\n"
MODALITY = f"{HEADING}CT Image Storage,{CT},Yes,No,Explicit VR Little Endian\n"
PACS = f"{HEADING}CT Image Storage,{CT},No,Yes,Implicit VR Little Endian\n"


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
    assert "1 Incompatible; something has to change" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"%PDF-1.4", "save it as text"),
        (b"PK\x03\x04", "save it as text"),
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
