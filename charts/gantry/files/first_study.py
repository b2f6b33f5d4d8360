"""`helm test`: is a study that is sent found? C-ECHO, C-STORE, STOW; then QIDO, and C-FIND if told.

The study is always the same, byte for byte, so that running this again leaves no second copy.
"""

import argparse
import http.client
import io
import json
import os
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

_VERIFICATION = "1.2.840.10008.1.1"  # PS3.4 Annex A
_STUDY = "2.25.187311034522650197443311876690412236510"
_SENT = f"{_STUDY[:-2]}13"
_POSTED = f"{_STUDY[:-2]}14"
_TIMEOUT = 30.0


def image(SOPInstanceUID: str, number: int) -> Dataset:
    """A secondary capture of 8 x 8 pixels."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = SOPInstanceUID
    ds.StudyInstanceUID = _STUDY
    ds.SeriesInstanceUID = f"{_STUDY[:-2]}12"
    ds.PatientName = "Helm^Test"
    ds.PatientID = "GANTRY-HELM-TEST"
    ds.PatientBirthDate = ds.PatientSex = ds.AccessionNumber = ds.ReferringPhysicianName = ""
    ds.StudyID = "1"
    ds.StudyDate, ds.StudyTime = "20260101", "000000"
    ds.StudyDescription = "Sent by helm test"
    ds.Modality, ds.ConversionType = "OT", "WSD"
    ds.SeriesNumber, ds.InstanceNumber = 1, number
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = 8
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.PixelData = bytes(range(64))
    return ds


def send(called: str, calling: str, host: str, port: int) -> str:
    """C-ECHO and C-STORE; what went wrong, or nothing."""
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = _TIMEOUT
    ae.add_requested_context(_VERIFICATION)
    ae.add_requested_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian)
    assoc = ae.associate(host, port, ae_title=called)
    if not assoc.is_established:
        return f"{called}@{host}:{port} accepts no association of {calling}"
    try:
        for what, answer in (("C-ECHO", assoc.send_c_echo), ("C-STORE", assoc.send_c_store)):
            response = answer() if what == "C-ECHO" else answer(image(_SENT, 1))
            status = response.get("Status")
            if status != 0:
                return f"{what} was answered with {status}"
            print(f"{what}: success")
    finally:
        assoc.release()
    return ""


def ask(
    web: str, path: str, body: bytes | None = None, content_type: str = ""
) -> tuple[int, bytes]:
    """A GET, or a POST of a body: the status and the text of the answer."""
    parts = urlsplit(web)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=_TIMEOUT)
    headers = {"Accept": "application/dicom+json"}
    if token := os.environ.get("WEB_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    if body is not None:
        headers["Content-Type"] = content_type
    try:
        connection.request("GET" if body is None else "POST", parts.path + path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def post(web: str) -> str:
    """STOW of the second instance; what went wrong, or nothing."""
    ds = image(_POSTED, 2)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    status, _ = ask(web, "/studies", file.getvalue(), "application/dicom")
    if status != 200:
        return f"STOW was answered with {status}"
    print("STOW: success")
    return ""


def searched(web: str, wanted: set[str]) -> str:
    """Nothing where a QIDO finds these instances of the study, and else what it says."""
    status, text = ask(web, f"/studies/{_STUDY}/instances")
    found = {item["00080018"]["Value"][0] for item in json.loads(text)} if status == 200 else set()
    return "" if wanted <= found else f"{status}, {len(found)} of {len(wanted)} instances"


def asked(called: str, calling: str, host: str, port: int) -> str:
    """Nothing where a C-FIND finds the study, and else what it says."""
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = _TIMEOUT
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind, ExplicitVRLittleEndian)
    assoc = ae.associate(host, port, ae_title=called)
    if not assoc.is_established:
        return f"{called}@{host}:{port} accepts no association of {calling}"
    keys = Dataset()
    keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", _STUDY
    model = StudyRootQueryRetrieveInformationModelFind
    try:
        answers = list(assoc.send_c_find(keys, model))
    finally:
        assoc.release()
    if any(match is not None and match.StudyInstanceUID == _STUDY for _, match in answers):
        return ""
    return f"{len(answers) - 1} matches, status {answers[-1][0].get('Status')}"


def patiently(what: str, attempt: Callable[[], str], until: float) -> bool:
    """Whether an attempt said nothing, before that time of the clock."""
    last = "none was made"
    while time.monotonic() < until:
        try:
            last = attempt()
        except (OSError, http.client.HTTPException) as error:
            last = type(error).__name__
        if not last:
            print(f"{what}: found")
            return True
        time.sleep(0.5)  # between two questions, until the deadline
    print(f"{what}: not found in time; the last answer was {last}")
    return False


def main() -> int:
    """0 where all of it worked within the patience."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--called", required=True)
    parser.add_argument("--calling", required=True)
    parser.add_argument("--storage", required=True, metavar="HOST:PORT")
    parser.add_argument("--web", required=True, metavar="URL")
    parser.add_argument("--stow", action="store_true", help="store over HTTP too")
    parser.add_argument("--query", metavar="HOST:PORT", help="ask over DIMSE too")
    parser.add_argument("--patience", type=float, default=60.0)
    arguments = parser.parse_args()
    host, _, port = arguments.storage.rpartition(":")
    wrong = send(arguments.called, arguments.calling, host, int(port))
    if not wrong and arguments.stow:
        wrong = post(arguments.web)
    if wrong:
        print(wrong)
        return 1
    until = time.monotonic() + arguments.patience
    wanted = {_SENT, _POSTED} if arguments.stow else {_SENT}
    found = patiently("QIDO", lambda: searched(arguments.web, wanted), until)
    if found and arguments.query:
        host, _, port = arguments.query.rpartition(":")
        titles = arguments.called, arguments.calling
        found = patiently("C-FIND", lambda: asked(*titles, host, int(port)), until)
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
