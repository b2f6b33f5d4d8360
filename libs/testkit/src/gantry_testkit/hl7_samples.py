"""Messages of HL7 for tests: made ones, and the samples beside the project where they are there."""

from pathlib import Path

SAMPLES = Path(__file__).parents[5] / "shared" / "data" / "hl7"

EXPECTED = {
    # By folder and name: the acknowledgement, and the condition of HL7 Table 0357.
    "dcm4che/ADT^A31-UpdatePersonInfo-Veterinary.hl7": "AA",
    "dcm4che/ADT^A31-UpdatePersonInfo.hl7": "AA",
    "dcm4che/ADT^A40-PatientMerge.hl7": "AA",
    "dcm4che/ADT^A47-ChangePatientID.hl7": "AA",
    "dcm4che/OMG^O19-GeneralClinicalOrder-Eyecare.hl7": "AA",
    "dcm4che/OMI^O23-ImagingOrder.hl7": "AA",
    "dcm4che/ORM^O01-GeneralOrder.hl7": "AA",
    "dcm4che/ORU^R01-CDA.hl7": "AR 200",
    "dcm4che/ORU^R01-PDF.hl7": "AR 200",
    "dcm4che/ORU^R01-SR.hl7": "AR 200",
    "dcm4che/SIU^S12-NewAppointmentBooking.hl7": "AE 100",  # without SCH
    "dcm4che/old-ADT^A08.hl7": "AA",
    "dcm4che/old-OMI^O23.hl7": "AA",
    "dcm4che/old-ORM^O01.hl7": "AA",
    "dcm4che/old-SIU^S12.hl7": "AE 100",  # all of it is in one segment
    "iheos/A01.txt": "AA",
    "iheos/A43.txt": "AR 201",
    "iheos/ACK.txt": "AR 200",
    "monai/2.3.1/001.txt": "AR 201",
    "monai/2.3.1/002.txt": "AR 200",
    "monai/2.3/001.txt": "AR 200",
    "monai/2.3/002.txt": "AR 200",
    "monai/2.3/003.txt": "AA",
    "monai/2.3/004.txt": "AA",
    "monai/2.3/005.txt": "AR 200",
    "monai/2.3/006.txt": "AR 200",
    "monai/2.4/001.txt": "AA",
    "monai/2.5.1/001.txt": "AR 200",
    "monai/2.5.1/002.txt": "AR 200",
    "monai/2.5.1/003.txt": "AR 200",
    "monai/2.5.1/004.txt": "AR 200",
    "monai/2.5.1/005.txt": "AR 200",
    "monai/2.5.1/006.txt": "AR 200",
    "monai/2.6/001.txt": "AR 200",
    "monai/2.8/001.txt": "AA",
}


def order_message(
    *,
    control: str = "NW",
    control_id: str = "1",
    accession: str = "A1",
    patient: str = "P1^^^HOSP",
    name: str = "CHAN^TAI MAN",
    start: str = "20261121083000",
    modality: str = "CT",
    status: str = "",
    charset: str = "UNICODE UTF-8",
    codec: str = "utf_8",
) -> bytes:
    """An ORM^O01 of one requested procedure with one step."""
    lines = (
        f"MSH|^~\\&|RIS|HOSP|GANTRY|HOSP|20261121080000||ORM^O01|{control_id}|P|2.3.1||||||{charset}",
        f"PID|||{patient}||{name}||19700102|F",
        "PV1||O|WARD 3^B12|||||100^WONG^SIU MING|||||||||||V77",
        f"ORC|{control}|PL{accession}|FI{accession}||{status}||1^^^{start}^^R",
        f"OBR|1|PL{accession}|FI{accession}|CTHEAD^CT of the head^L^P7^CT head plain^L||||||||||||"
        f"200^LEE^KA YAN||{accession}|RP{accession}|SP{accession}||||{modality}",
    )
    return "\r".join(lines).encode(codec) + b"\r"


def patient_message(
    event: str,
    *,
    control_id: str = "1",
    patient: str = "P1^^^HOSP",
    name: str = "CHAN^TAI MAN",
    old: str = "",
    location: str = "",
) -> bytes:
    """An ADT message; with `old` an MRG segment."""
    lines = [
        f"MSH|^~\\&|RIS|HOSP|GANTRY|HOSP|20261121080000||ADT^{event}|{control_id}|P|2.5||||||8859/1",
        f"EVN|{event}|20261121080000",
        f"PID|||{patient}||{name}||19700102|F",
        *([f"MRG|{old}"] if old else []),
        *([f"PV1||I|{location}"] if location else []),
    ]
    return "\r".join(lines).encode("latin_1") + b"\r"
