"""Which SOP classes are of images: each of the standard is decided here, by its name."""

import pytest

from gantry_domain.class_refusals import NOT_OF_IMAGES, class_not_taken
from gantry_domain.private_sop_classes import PRIVATE_SOP_CLASSES
from gantry_domain.sop_classes import STORAGE_CLASSES


def test_what_is_called_an_image_is_one_and_so_is_what_nobody_knows() -> None:
    assert not any("Image Storage" in STORAGE_CLASSES[uid].name for uid in NOT_OF_IMAGES)
    assert not NOT_OF_IMAGES & PRIVATE_SOP_CLASSES.keys()
    assert not class_not_taken("1.2.3.4", 0x0122)


def test_what_else_has_pixels_is_an_image() -> None:
    others = {
        known.name
        for uid, known in STORAGE_CLASSES.items()
        if uid not in NOT_OF_IMAGES | PRIVATE_SOP_CLASSES.keys() and not known.image
    }
    assert others == {
        "Parametric Map Storage",
        "Enhanced US Volume Storage",
        "Segmentation Storage",
        "Label Map Segmentation Storage",
        "Height Map Segmentation Storage",
        "Ophthalmic Optical Coherence Tomography B-scan Volume Analysis Storage",
        "Ophthalmic Thickness Map Storage",
        "Corneal Topography Map Storage",
        # Of baggage; nobody here needs to know what they have.
        "DICOS Threat Detection Report Storage",
        "DICOS 2D AIT Storage",
        "DICOS 3D AIT Storage",
        "DICOS Quadrupole Resonance (QR) Storage",
    }


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.1.1.11.1",  # Grayscale Softcopy Presentation State
        "1.2.840.10008.5.1.4.1.1.9.1.1",  # 12-lead ECG
        "1.2.840.10008.5.1.4.1.1.66",  # Raw Data
        "1.2.840.10008.5.1.4.1.1.66.1",  # Spatial Registration
        "1.2.840.10008.5.1.4.1.1.88.59",  # Key Object Selection
        "1.2.840.10008.5.1.4.1.1.88.67",  # X-Ray Radiation Dose SR
        "1.2.840.10008.5.1.4.1.1.104.1",  # Encapsulated PDF
        "1.2.840.10008.5.1.4.1.1.481.2",  # RT Dose
        "1.2.840.10008.5.1.4.1.1.481.3",  # RT Structure Set
        "1.2.840.10008.5.1.4.1.1.481.5",  # RT Plan
    ],
)
def test_it_is_no_image_and_its_class_alone_is_no_reason(uid: str) -> None:
    assert class_not_taken(uid, 0x0122)
    assert not class_not_taken(uid, None)
    assert not class_not_taken(uid, 0xA900)


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.1.1.2",  # CT Image
        "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
        "1.2.840.10008.5.1.4.1.1.30",  # Parametric Map
        "1.2.840.10008.5.1.4.1.1.481.1",  # RT Image
        "1.2.840.10008.5.1.4.1.1.104.999",
    ],
)
def test_it_is_an_image(uid: str) -> None:
    assert not class_not_taken(uid, 0x0122)
