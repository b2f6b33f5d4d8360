"""`helm test`: is a study that is sent over DIMSE found over DICOMweb? C-ECHO, C-STORE, QIDO.

The study is always the same, byte for byte, so that running this again leaves no second copy.
"""

import argparse
import http.client
import sys
import time
from urllib.parse import urlsplit

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE

_VERIFICATION = "1.2.840.10008.1.1"  # PS3.4 Annex A
_STUDY = "2.25.187311034522650197443311876690412236510"
_TIMEOUT = 30.0


def study() -> Dataset:
    """One secondary capture of 8 x 8 pixels."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = f"{_STUDY[:-2]}13"
    ds.StudyInstanceUID = _STUDY
    ds.SeriesInstanceUID = f"{_STUDY[:-2]}12"
    ds.PatientName = "Helm^Test"
    ds.PatientID = "GANTRY-HELM-TEST"
    ds.PatientBirthDate = ds.PatientSex = ds.AccessionNumber = ds.ReferringPhysicianName = ""
    ds.StudyID = "1"
    ds.StudyDate, ds.StudyTime = "20260101", "000000"
    ds.StudyDescription = "Sent by helm test"
    ds.Modality, ds.ConversionType = "OT", "WSD"
    ds.SeriesNumber = ds.InstanceNumber = 1
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
            response = answer() if what == "C-ECHO" else answer(study())
            status = response.get("Status")
            if status != 0:
                return f"{what} was answered with {status}"
            print(f"{what}: success")
    finally:
        assoc.release()
    return ""


def search(web: str) -> tuple[int, bool]:
    """A QIDO for the study: its status, and whether the study is in the answer."""
    parts = urlsplit(web)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=_TIMEOUT)
    try:
        connection.request(
            "GET",
            f"{parts.path}/studies?StudyInstanceUID={_STUDY}",
            headers={"Accept": "application/dicom+json"},
        )
        answer = connection.getresponse()
        return answer.status, _STUDY.encode() in answer.read()
    finally:
        connection.close()


def main() -> int:
    """0 where all three worked within the patience."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--called", required=True)
    parser.add_argument("--calling", required=True)
    parser.add_argument("--storage", required=True, metavar="HOST:PORT")
    parser.add_argument("--web", required=True, metavar="URL")
    parser.add_argument("--patience", type=float, default=60.0)
    arguments = parser.parse_args()
    host, _, port = arguments.storage.rpartition(":")
    if wrong := send(arguments.called, arguments.calling, host, int(port)):
        print(wrong)
        return 1
    deadline = time.monotonic() + arguments.patience
    last = "none"
    while time.monotonic() < deadline:
        try:
            status, found = search(arguments.web)
        except (OSError, http.client.HTTPException) as error:
            last = type(error).__name__
        else:
            if status == 200 and found:
                print("QIDO: found")
                return 0
            last = f"{status}, without the study"
        time.sleep(0.5)  # between two questions, until the deadline
    print(f"QIDO: not found in time; the last answer was {last}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
