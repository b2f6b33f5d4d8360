"""Statements of others are read as they stand, errors included; lint tells the errors.

The documents of the project's sources are read whole where they lie beside it.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from gantry_domain.conformance.compared_rows import compared_statements
from gantry_domain.conformance.comparison_form import rendered_comparison
from gantry_domain.conformance.compatibility import Compared, Comparison, Verdict, compare
from gantry_domain.conformance.forms import rendered
from gantry_domain.conformance.lint import lint
from gantry_domain.conformance.model import (
    Entity,
    Origin,
    QueryKey,
    Role,
    Statement,
    Support,
)
from gantry_domain.conformance.names import class_named, is_class
from gantry_domain.conformance.reading import Reading, read_statement
from gantry_domain.conformance.registry import Service, service_of
from gantry_domain.information_models import (
    MODALITY_PERFORMED_PROCEDURE_STEP,
    MODALITY_WORKLIST_FIND,
    PATIENT_ROOT_FIND,
)
from gantry_domain.sop_classes import VERIFICATION
from gantry_domain.transfer_syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

SEEDS = Path(__file__).parents[4] / "shared" / "seeds"
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_CT, CAPTURE = "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.7"
PET, RT_IMAGE = "1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.481.1"
DX, DX_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1.1"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
UNCOMPRESSED = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, BIG_ENDIAN)

# As the text of a PDF has it: tabs between cells, headings with marks.
PDF_TEXT = f"""
### 3.1 C-STORE SCP Specification

The AE provides Standard Conformance to the following SOP Classes as an SCP:

SOP Class Name\tSOP Class UID
VerificationSOPClass\t1.2.840.10008.1.1
CTImageStorage\t{CT}
RTImageStorage\t{PET}
PrivateThings\t1.2.3.4.5.6.7.8

The AE will accept them using any of the transfer syntaxes:

LittleEndianImplicitTransferSyntax\t1.2.840.10008.1.2
LittleEndianExplicitTransferSyntax\t1.2.840.10008.1.2.1

### 3.3 C-STORE SCU Specification

The server expects support for the following SOP Classes as an SCU:

CTImageStorage\t{CT}

The C-STORE SCU will propose default JPEG lossless transfer syntaxes and all uncompressed ones.
Send CT Image Storage ({CT}) to anybody.
Implementation Class UID 1.2.3.4.5.6.7.9
"""


def seed(number: str) -> bytes:
    found = list(SEEDS.glob(f"{number}_*.txt"))
    if not found:
        pytest.skip("the source documents do not lie beside the project")
    return found[0].read_bytes()


def read(number: str) -> Reading:
    return read_statement(seed(number), name=number)


def stated(
    product: str, *supports: Support, keys: tuple[QueryKey, ...] = (), origin: Origin = Origin.READ
) -> Statement:
    entity = Entity(name=product, supports=supports)
    return Statement(product=product, origin=origin, entities=(entity,), keys=keys)


def support(uid: str, role: Role | None, *syntaxes: str, supported: bool = True) -> Support:
    return Support(
        uid=uid, name="", role=role, supported=supported, transfer_syntaxes=syntaxes or None
    )


def by_class(comparison: Comparison) -> dict[str, Compared]:
    return {each.uid: each for each in comparison.classes}


def test_text_of_a_pdf() -> None:
    statement = read_statement(PDF_TEXT.encode(), name="x").statement
    found = [(each.uid, each.role, each.transfer_syntaxes) for each in statement.supports()]
    two = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN)
    assert found[:3] == [(uid, Role.SCP, two) for uid in (VERIFICATION, CT, PET)]
    assert (CT, Role.SCU) in [each[:2] for each in found]
    lines = PDF_TEXT.splitlines()
    for each in statement.supports():
        assert each.found is not None
        assert each.uid in lines[each.found.line - 1]
    assert [(each.uid, each.name) for each in statement.supports() if not is_class(each.uid)] == [
        ("1.2.3.4.5.6.7.8", "PrivateThings")
    ]
    assert [(each.line, each.why) for each in statement.unread] == [(len(lines), "an unknown UID")]


@pytest.mark.parametrize(
    "text",
    [
        f"SOP Class Name,UID,SCU,SCP,Transfer Syntaxes\n"
        f"CT Image Storage,{CT},No,Yes,Implicit VR Little Endian\n",
        f"| SOP Class | UID | SCU | SCP | Transfer syntaxes |\n|---|---|---|---|---|\n"
        f"| CT Image Storage | {CT} | No | Yes | Implicit VR Little Endian |\n",
        f"<!DOCTYPE html><table><tr><th>SOP class</th><th>UID</th><th>SCU</th><th>SCP</th>"
        f"<th>Transfer syntaxes</th></tr><tr><td>CT Image Storage</td><td>{CT}</td><td>No</td>"
        "<td>Yes</td><td>Implicit VR Little Endian</td></tr></table>",
        "SOP Class Name,UID,SCU,SCP,Transfer Syntaxes\n"
        "CT Imgae Storage,,No,Yes,Implicit VR Little Endian\n",
    ],
    ids=["csv", "markdown", "html", "by a misspelt name"],
)
def test_tables(text: str) -> None:
    statement = read_statement(text.encode(), name="x").statement
    assert [
        (each.uid, each.role, each.supported, each.transfer_syntaxes)
        for each in statement.supports()
    ] == [
        (CT, Role.SCU, False, (IMPLICIT_VR_LITTLE_ENDIAN,)),
        (CT, Role.SCP, True, (IMPLICIT_VR_LITTLE_ENDIAN,)),
    ]


def test_a_name_of_nothing_is_listed_and_not_guessed() -> None:
    text = "SOP Class Name,UID,SCU\nHolographic Dream Storage,,Yes\n"
    statement = read_statement(text.encode(), name="x").statement
    assert not list(statement.supports())
    assert [each.line for each in statement.unread] == [2]


def test_our_json_is_read_as_it_was_written() -> None:
    statement = stated("X", support(CT, Role.SCP, IMPLICIT_VR_LITTLE_ENDIAN))
    written = rendered(statement, form="json").encode()
    assert read_statement(written, name="y").statement == statement


@pytest.mark.parametrize(
    ("name", "uid"),
    [
        ("VLP photographicImageStorage", "1.2.840.10008.5.1.4.1.1.77.1.4"),
        ("FINDModalityWorklistInformationModel", MODALITY_WORKLIST_FIND),
        ("Digital X-Ray Image Storage - For Processing", DX_PROCESSING),
        ("UltrasoundMultiframeImageStorage", "1.2.840.10008.5.1.4.1.1.3.1"),
        ("something else altogether", None),
    ],
)
def test_names(name: str, uid: str | None) -> None:
    found = class_named(name)
    assert (found and found.uid) == uid


def test_verdicts() -> None:
    modality = stated(
        "CT",
        support(CT, Role.SCU, IMPLICIT_VR_LITTLE_ENDIAN, JPEG_LOSSLESS),
        support(CAPTURE, Role.SCU, EXPLICIT_VR_LITTLE_ENDIAN),
        support(MR, Role.SCU, supported=False),
        support(PET, Role.SCU, IMPLICIT_VR_LITTLE_ENDIAN),
        support(MODALITY_WORKLIST_FIND, Role.SCU, IMPLICIT_VR_LITTLE_ENDIAN),
    )
    pacs = stated(
        "PACS",
        support(CT, Role.SCP, IMPLICIT_VR_LITTLE_ENDIAN),
        support(CAPTURE, Role.SCP, IMPLICIT_VR_LITTLE_ENDIAN),
        support(MR, Role.SCP, IMPLICIT_VR_LITTLE_ENDIAN),
    )
    found = by_class(compare(modality, pacs))
    assert found[CT].verdict is Verdict.COMPATIBLE
    assert found[CT].common == (IMPLICIT_VR_LITTLE_ENDIAN,)
    assert "PACS does not take JPEG Lossless" in found[CT].reason
    assert found[CAPTURE].verdict is Verdict.INCOMPATIBLE
    assert "let CT propose Implicit VR Little Endian" in found[CAPTURE].change
    assert found[MR].verdict is Verdict.NOT_NEEDED
    assert found[PET].verdict is Verdict.INCOMPATIBLE
    assert found[MODALITY_WORKLIST_FIND].verdict is Verdict.NOT_STATED
    probed = stated("PACS", *pacs.supports(), origin=Origin.PROBED)
    of_probe = by_class(compare(modality, probed))[MODALITY_WORKLIST_FIND]
    assert of_probe.verdict is Verdict.INCOMPATIBLE


def test_a_probe_does_not_tell_what_a_peer_uses() -> None:
    """Its SCU roles: neither that it asks, nor that it does not."""
    probed = stated("CT", support(CT, Role.SCP, IMPLICIT_VR_LITTLE_ENDIAN), origin=Origin.PROBED)
    pacs = stated(
        "PACS",
        support(CT, Role.SCP, IMPLICIT_VR_LITTLE_ENDIAN),
        support(CT, Role.SCU, IMPLICIT_VR_LITTLE_ENDIAN),
    )
    asked, sent_back = compare(probed, pacs).classes
    assert (asked.user, asked.verdict) == ("CT", Verdict.NOT_STATED)
    assert "a probe does not tell whether CT uses it" in asked.reason
    assert (sent_back.user, sent_back.verdict) == ("PACS", Verdict.COMPATIBLE)


def test_a_comparison_in_a_table() -> None:
    text = (
        "SOP Class,CT,PACS,Compatibility\n"
        f"CT Image Storage ({CT}),Supported,Supported,Compatible\n"
        "MR Image Storage,No,Yes,Not Needed\n"
        "Something Else,Yes,Yes,Compatible\n"
    )
    reading = read_statement(text.encode(), name="x")
    columns = compared_statements(reading.compared)
    found = {each.uid: (each.name, each.supported) for each in columns["CT"].supports()}
    assert found == {CT: ("CT Image Storage", True), MR: ("MR Image Storage", False)}
    assert all(each.supported for each in columns["PACS"].supports())


def test_names_in_two_lines() -> None:
    wrapped = "1.2.840.10008.5.1.4.1.1.200.1"
    rows = (
        "SOP Class\tUID\tSCU\tSCP",
        f"CT Defined Procedure\t{wrapped}\tNo\tYes",
        "Protocol Storage",
        f"Positron Emision Tomografy\t{PET}\tNo\tYes",
        "A line of something else",
    )
    reading = read_statement("\n".join(rows).encode(), name="x")
    names = {each.uid: each.name for each in reading.statement.supports()}
    assert names == {
        wrapped: "CT Defined Procedure Protocol Storage",
        PET: "Positron Emision Tomografy",
    }
    assert [each.rule for each in lint(reading) if "name" in each.rule] == ["misspelt_name"]
    assert [row.line for row in reading.rows] == [1, 2, 4, 5]


def test_a_table_of_something_else_ends_that_of_classes() -> None:
    text = f"SOP Class,UID,SCU\nCT Image Storage,{CT},Yes\nStatus,Name,Meaning\n0000,Success,x\n"
    statement = read_statement(text.encode(), name="x").statement
    assert [each.uid for each in statement.supports()] == [CT]
    assert not statement.unread


def test_keys() -> None:
    def key(keyword: str, tag: str, role: Role, matching: str | None) -> QueryKey:
        return QueryKey(
            service="C-FIND", level="", tag=tag, keyword=keyword, role=role, matching=matching
        )

    asked = (
        key("PatientID", "00100020", Role.SCU, "single value"),
        key("PatientName", "00100010", Role.SCU, "wildcard"),
        key("PatientSex", "00100040", Role.SCU, None),
    )
    answered = (
        key("PatientID", "00100020", Role.SCP, "single value"),
        key("PatientName", "00100010", Role.SCP, None),
    )
    found = compare(stated("CT", keys=asked), stated("RIS", keys=answered)).keys
    assert [each.verdict for each in found] == [
        Verdict.COMPATIBLE,
        Verdict.INCOMPATIBLE,
        Verdict.INCOMPATIBLE,
    ]
    # The RIS answers for the worklist alone.
    listed = replace(asked[0], service=Service.WORKLIST.value)
    found = compare(
        stated("CT", keys=(*asked, listed)), stated("PACS", keys=answered), stated("RIS")
    ).keys
    assert [each.provider for each in found] == ["PACS", "PACS", "PACS", "RIS"]
    assert [each.verdict for each in found][-1] is Verdict.NOT_STATED
    silent = compare(stated("CT", keys=asked), stated("RIS")).keys
    assert {each.verdict for each in silent} == {Verdict.NOT_STATED}


def test_a_comparison_in_its_forms() -> None:
    modality = stated("=CT", support(CT, Role.SCU, IMPLICIT_VR_LITTLE_ENDIAN))
    pacs = stated("PACS", support(CT, Role.SCP, IMPLICIT_VR_LITTLE_ENDIAN))
    comparison = compare(modality, pacs)
    assert "1 Compatible; all that is needed works together" in comparison.summary
    sheet = rendered_comparison(comparison, form="csv").splitlines()
    assert sheet[1].startswith(f"Storage,CT Image Storage,{CT},'=CT,PACS,Compatible,")
    assert f"| {CT} |" in rendered_comparison(comparison, form="markdown")
    assert f">{CT}</td>" in rendered_comparison(comparison, form="html")


class TestSources:
    """The documents that the project was asked to read."""

    def test_an_integrators_comparison(self) -> None:
        reading = read("000")
        others = compared_statements(reading.compared)
        comparison = compare(reading.statement, others["PACS"], others["RIS"])
        verdicts = {uid: each.verdict for uid, each in by_class(comparison).items()}
        assert verdicts == {
            CT: Verdict.NOT_STATED,  # the syntaxes of the PACS
            ENHANCED_CT: Verdict.NOT_STATED,
            CAPTURE: Verdict.NOT_STATED,
            MR: Verdict.NOT_NEEDED,
            PATIENT_ROOT_FIND: Verdict.NOT_NEEDED,  # where the document says incompatible
            MODALITY_WORKLIST_FIND: Verdict.NOT_STATED,
            MODALITY_PERFORMED_PROCEDURE_STEP: Verdict.NOT_STATED,
        }

    def test_the_errors_of_that_comparison(self) -> None:
        findings = [(each.rule, each.line) for each in lint(read("000"))]
        assert findings == [
            ("missing_verification", 0),
            ("mpps_as_c_store", 27),
            ("mpps_paused", 27),
            ("missing_roles", 64),
            ("missing_default_syntax", 66),
            ("syntaxes_not_compared", 104),
            ("contradiction", 126),  # the statement says no to Patient Root FIND
            ("query_retrieve_with_ris", 126),
            ("contradiction", 132),  # the note says fully compatible
        ]

    def test_an_archives_statement(self) -> None:
        statement = read("003").statement
        stored = [e for e in statement.supports() if service_of(e.uid) is Service.STORAGE]
        as_scp = {each.uid: each for each in stored if each.role is Role.SCP}
        as_scu = {each.uid: each for each in stored if each.role is Role.SCU}
        assert (len(as_scp), len(as_scu)) == (84, 63)
        assert {each.transfer_syntaxes for each in as_scp.values()} == {UNCOMPRESSED}
        assert {each.transfer_syntaxes for each in as_scu.values()} == {
            (JPEG_LOSSLESS, *UNCOMPRESSED)
        }
        assert [each.tag for each in statement.keys] == (
            "00080050 00080090 00100010 00100020 00100030 00100040 00321032 00380010 00400100 "
            "00080060 00400001 00400002 00400003 00400006 00401001 00401003"
        ).split()
        facts = {each.name: each.value for each in statement.entities[0].policies}
        assert facts == {
            "PDU offered": "48k",
            "PDU accepted": "any",
            "Port (C-STORE)": "4000",
            "Port (DICOM Modality Work List)": "4001",
        }
        assert statement.character_sets == ()
        assert not statement.unread

    def test_the_errors_of_that_statement(self) -> None:
        findings = lint(read("003"))
        names = [e for e in findings if e.rule in ("wrong_name_or_uid", "misspelt_name")]
        assert [(each.rule, each.line) for each in names] == [
            ("misspelt_name", 105),
            ("wrong_name_or_uid", 108),
            ("misspelt_name", 237),
            ("misspelt_name", 268),
        ]
        (wrong,) = (each.text for each in names if each.rule == "wrong_name_or_uid")
        assert PET in wrong
        assert RT_IMAGE in wrong

    def test_a_gateways_table(self) -> None:
        reading = read("004")
        found = list(reading.statement.supports())
        assert {each.role for each in found} == {Role.SCU, Role.SCP}
        assert len({(each.uid, each.name) for each in found}) == 15
        (wrong,) = {each.text for each in lint(reading) if each.rule == "wrong_name_or_uid"}
        assert f"is {DX_PROCESSING}; {DX} is" in wrong
