"""Data sets for the bench: CT-like, all of one size, each study with UIDs of its own."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_ROOT = "1.2.826.0.1.3680043.10.1999.77"

# Columns and rows of 16-bit pixels, by name: 512 KiB and 12 KB with the header.
SIZES = {"512 KiB": 512, "12 KB": 64}


@dataclass(frozen=True, slots=True)
class Sample:
    """An encoded data set in which a sender counts its instances.

    The `length` bytes at `offset` are the SOP Instance UID, which ends in ten digits.
    """

    encoded: bytes
    study_instance_uid: str
    series_instance_uid: str
    offset: int
    length: int


def ct_image(size: int, study: int, *, instance: int = 0) -> Dataset:
    """A CT image of `size` by `size` pixels and some 70 elements, of a study by its number."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CT_IMAGE
    ds.SOPInstanceUID = f"{_ROOT}.3.1{study:08}.1{instance:010}"
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = "20260102"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "101112"
    ds.AccessionNumber = f"A{study:07}"
    ds.Modality = "CT"
    ds.Manufacturer = "BENCH"
    ds.InstitutionName = "Hospital"
    ds.ReferringPhysicianName = "REFERRING^DOCTOR"
    ds.StationName = "CT01"
    ds.StudyDescription = "CT thorax and abdomen"
    ds.SeriesDescription = "Axial 1.0"
    ds.ReferencedImageSequence = [_reference(study)]
    ds.PatientName = f"BENCH^PATIENT {study:07}"
    ds.PatientID = f"P{study:07}"
    ds.PatientBirthDate = "19600101"
    ds.PatientSex = "F"
    ds.PatientAge = "066Y"
    for keyword, value in _TECHNIQUE.items():
        setattr(ds, keyword, value)
    ds.StudyInstanceUID = f"{_ROOT}.1.1{study:07}"
    ds.SeriesInstanceUID = f"{_ROOT}.2.1{study:07}"
    ds.FrameOfReferenceUID = f"{_ROOT}.4.1{study:07}"
    ds.StudyID = f"{study:07}"
    ds.InstanceNumber = str(instance + 1)
    private = ds.private_block(0x0029, "GANTRY BENCH", create=True)
    for number in range(8):
        private.add_new(0x10 + number, "LO", f"private value {number}")
    private.add_new(0x30, "OB", bytes(1024))
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = size
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    pixels = np.random.default_rng(study).integers(0, 4096, (size, size), dtype="<u2")
    ds.PixelData = pixels.tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


_TECHNIQUE: dict[str, Any] = {
    "BodyPartExamined": "CHEST",
    "ScanOptions": "HELIX",
    "SliceThickness": "1.0",
    "KVP": "120",
    "DataCollectionDiameter": "500",
    "DeviceSerialNumber": "12345",
    "SoftwareVersions": "1.0",
    "ProtocolName": "Thorax routine",
    "ReconstructionDiameter": "350",
    "DistanceSourceToDetector": "1040",
    "DistanceSourceToPatient": "570",
    "GantryDetectorTilt": "0",
    "TableHeight": "150",
    "RotationDirection": "CW",
    "ExposureTime": "500",
    "XRayTubeCurrent": "220",
    "Exposure": "110",
    "FilterType": "WEDGE",
    "GeneratorPower": "26",
    "FocalSpots": "1.2",
    "ConvolutionKernel": "B30f",
    "PatientPosition": "HFS",
    "SingleCollimationWidth": 0.6,
    "TotalCollimationWidth": 19.2,
    "TableSpeed": 38.4,
    "SpiralPitchFactor": 1.0,
    "SeriesNumber": "1",
    "AcquisitionNumber": "1",
    "ImagePositionPatient": [-175.0, -175.0, 0.0],
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "SliceLocation": "0.0",
    "PixelSpacing": [0.68, 0.68],
    "WindowCenter": ["40", "-600"],
    "WindowWidth": ["400", "1200"],
    "RescaleIntercept": "-1024",
    "RescaleSlope": "1",
    "RescaleType": "HU",
    "LossyImageCompression": "00",
}


def _reference(study: int) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = CT_IMAGE
    reference.ReferencedSOPInstanceUID = f"{_ROOT}.5.1{study:07}"
    return reference


def sample(size: int, study: int) -> Sample:
    """The data set of a study's images, for the sender."""
    ds = ct_image(size, study)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    encoded = buffer.getvalue()
    uid = ds.SOPInstanceUID.encode()
    assert len(uid) % 2 == 0
    assert encoded.count(uid) == 1
    return Sample(encoded, ds.StudyInstanceUID, ds.SeriesInstanceUID, encoded.index(uid), len(uid))


def write_files(folder: Path, size: int, study: int, count: int) -> list[Path]:
    """The same images as files, for dcmtk's sender."""
    paths = []
    ds = ct_image(size, study)
    for instance in range(count):
        ds.SOPInstanceUID = f"{_ROOT}.3.1{study:08}.1{instance:010}"
        ds.InstanceNumber = str(instance + 1)
        content = io.BytesIO()
        ds.save_as(content, enforce_file_format=True)
        paths.append(folder / f"{instance:05}.dcm")
        paths[-1].write_bytes(content.getvalue())
    return paths
