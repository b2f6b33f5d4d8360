"""A probe learns of other products what they are configured to accept."""

from pathlib import Path

from gantry_archive.probing import Called, Probed, probe
from gantry_dimse.requesting import Timeouts
from gantry_domain.conformance.differences import accepted_as_scp
from gantry_domain.information_models import (
    MODALITY_WORKLIST_FIND,
    PATIENT_ROOT_FIND,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
)
from gantry_domain.sop_classes import VERIFICATION
from gantry_testkit.door import EXPLICIT, IMPLICIT, JPEG_BASELINE, JPEG_LOSSLESS
from gantry_testkit.peers import dcmqrscp, orthanc, storescp, wlmscpfs

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
UNKNOWN = "1.2.3.4.5"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
SYNTAXES = (EXPLICIT, IMPLICIT, BIG_ENDIAN, JPEG_LOSSLESS, JPEG_BASELINE)
QUERIES = (PATIENT_ROOT_FIND, STUDY_ROOT_FIND, STUDY_ROOT_MOVE, STUDY_ROOT_GET)
CLASSES = (VERIFICATION, CT, MR, UNKNOWN, *QUERIES, MODALITY_WORKLIST_FIND)

PROFILE = """
[[TransferSyntaxes]]
[Ours]
TransferSyntax1 = 1.2.840.10008.1.2.4.70
TransferSyntax2 = LittleEndianImplicit
[Plain]
TransferSyntax1 = LittleEndianImplicit
[[PresentationContexts]]
[Some]
PresentationContext1 = CTImageStorage\\Ours
PresentationContext2 = VerificationSOPClass\\Plain
[[Profiles]]
[Restricted]
PresentationContexts = Some
"""


def probed(port: int, called_ae: str) -> Probed:
    called = Called(
        host="127.0.0.1",
        port=port,
        called_ae=called_ae,
        calling_ae="PROBE",
        timeouts=Timeouts(),
    )
    found = probe(called, name=called_ae, classes=CLASSES, transfer_syntaxes=SYNTAXES, pause=0.0)
    assert found.stopped is None
    return found


def accepted(found: Probed) -> dict[str, frozenset[str]]:
    return accepted_as_scp(found.statement.supports())


def test_storescp_with_a_restricted_profile(tmp_path: Path) -> None:
    profile = tmp_path / "restricted.cfg"
    profile.write_text(PROFILE)
    with storescp(tmp_path / "peer", "-xf", str(profile), "Restricted") as peer:
        found = probed(peer.port, "STORESCP")
    assert accepted(found) == {
        VERIFICATION: {IMPLICIT},
        CT: {IMPLICIT, JPEG_LOSSLESS},
    }
    assert not list(peer.folder.iterdir())


def test_dcmqrscp(tmp_path: Path) -> None:
    with dcmqrscp(tmp_path) as peer:
        found = accepted(probed(peer.port, "DCMQRSCP"))
    assert found.keys() == {VERIFICATION, CT, MR, *QUERIES}
    assert found[CT] >= {EXPLICIT, IMPLICIT}


def test_orthanc(tmp_path: Path) -> None:
    options = {"AcceptedTransferSyntaxes": [EXPLICIT, IMPLICIT, JPEG_LOSSLESS]}
    with orthanc(tmp_path, options=options) as peer:
        found = accepted(probed(peer.port, "ORTHANC"))
    assert found[CT] == {EXPLICIT, IMPLICIT, JPEG_LOSSLESS}
    assert found.keys() >= {VERIFICATION, CT, MR, STUDY_ROOT_FIND, STUDY_ROOT_MOVE}
    assert UNKNOWN not in found


def test_wlmscpfs(tmp_path: Path) -> None:
    with wlmscpfs(tmp_path) as peer:
        found = accepted(probed(peer.port, peer.ae_title))
    assert found.keys() == {VERIFICATION, MODALITY_WORKLIST_FIND}
    assert found[MODALITY_WORKLIST_FIND] == {EXPLICIT, IMPLICIT, BIG_ENDIAN}
