"""What a destination is configured to get: attributes left out, and in which syntaxes."""

from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset

from gantry_archive.outbound import NotSendable
from gantry_archive.transforms import Transforms
from gantry_dimse.proposals import (
    NegotiatedContext,
    NegotiatedContexts,
    ProposedContext,
    plan_contexts,
)
from gantry_domain.file_meta import parse_file_meta
from gantry_domain.removal import parse_removal
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from gantry_stores.index.stored_object import StoredObject
from gantry_stores.objects import DirectoryStore
from gantry_testkit.stored import CT_IMAGE, image, stage

JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
EXPLICIT, IMPLICIT = EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN


def sent(folder: Path, ds: Dataset, transforms: Transforms, syntax: str = EXPLICIT) -> Dataset:
    """An image as a peer gets it that takes this syntax."""
    store = DirectoryStore(folder)
    staged = stage(store, ds)
    stored = StoredObject(
        object_id=staged.object_id,
        SOPClassUID=CT_IMAGE,
        TransferSyntaxUID=EXPLICIT,
        dataset_offset=parse_file_meta(
            store.read(next(iter(store.list("objects/"))).key, 0, 4096)
        ).dataset_offset,
        size=staged.size,
    )
    contexts = NegotiatedContexts([NegotiatedContext(1, CT_IMAGE, syntax)])
    with transforms.prepare(stored, contexts, store=store) as ready:
        assert ready.SOPInstanceUID is None
        content = b"".join(ready.chunks)
    return read_dataset(DicomBytesIO(content), syntax == IMPLICIT, True)


def nested() -> Dataset:
    item = Dataset()
    item.PatientComments = "in an item"
    item.CodeMeaning = "harmless"
    ds = image(PatientComments="at the top", ProcedureCodeSequence=[item])
    ds.add_new((0x0029, 0x0010), "LO", "ACME")
    ds.add_new((0x0029, 0x1001), "LO", "secret")
    ds.add_new((0x0031, 0x0010), "LO", "OTHER")
    ds.add_new((0x6002, 0x3000), "OW", b"\0\1")
    return ds


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_what_is_removed_is_nowhere_and_all_else_is_as_it_was(tmp_path: Path, syntax: str) -> None:
    ds = nested()
    transforms = Transforms(removal=parse_removal(["PatientComments", "0029,xxxx", "60xx,3000"]))
    got = sent(tmp_path, ds, transforms, syntax)
    assert (0x0029, 0x0010) not in got
    assert (0x0029, 0x1001) not in got
    assert (0x6002, 0x3000) not in got
    assert "PatientComments" not in got
    (item,) = got.ProcedureCodeSequence
    assert [each.keyword for each in item] == ["CodeMeaning"]
    for element in ds:
        if element.VR != "SQ" and element.tag in got:
            assert got[element.tag].value == element.value
    assert (0x0031, 0x0010) in got
    assert len(ds) - len(got) == 4


def test_all_that_is_private_at_once(tmp_path: Path) -> None:
    got = sent(tmp_path, nested(), Transforms(removal=parse_removal(["private"])))
    assert not any(element.tag.is_private for element in got)
    assert got.PatientComments == "at the top"


def test_a_peer_that_takes_nothing_that_fits_gets_nothing(tmp_path: Path) -> None:
    transforms = Transforms(removal=parse_removal(["PatientComments"]))
    with pytest.raises(NotSendable, match="no transfer syntax that fits"):
        sent(tmp_path, nested(), transforms, JPEG_LOSSLESS)


def test_what_is_named_is_all_that_is_proposed() -> None:
    held = [(CT_IMAGE, EXPLICIT), (CT_IMAGE, JPEG_LOSSLESS)]
    assert plan_contexts(held, only=[IMPLICIT]) == [(ProposedContext(CT_IMAGE, (IMPLICIT,)),)]
    assert plan_contexts(held, only=[JPEG_LOSSLESS, IMPLICIT, EXPLICIT]) == [
        (
            ProposedContext(CT_IMAGE, (JPEG_LOSSLESS,)),
            ProposedContext(CT_IMAGE, (EXPLICIT,)),
            ProposedContext(CT_IMAGE, (IMPLICIT,)),
        )
    ]


def test_compressed_pixels_are_decoded_after_the_edit(tmp_path: Path) -> None:
    file = pydicom.data.get_testdata_file("JPEG2000.dcm", download=False)
    content = Path(str(file)).read_bytes()
    parsed = parse_file_meta(content)
    store = DirectoryStore(tmp_path)
    offset = parsed.dataset_offset
    staged = stage(store, content[offset:], head=content[:offset])
    stored = StoredObject(
        object_id=staged.object_id,
        SOPClassUID=parsed.meta.MediaStorageSOPClassUID,
        TransferSyntaxUID=parsed.meta.TransferSyntaxUID,
        dataset_offset=offset,
        size=staged.size,
    )
    contexts = NegotiatedContexts([NegotiatedContext(1, stored.SOPClassUID, EXPLICIT)])
    transforms = Transforms(removal=parse_removal(["PatientName", "private"]))
    with transforms.prepare(stored, contexts, store=store) as ready:
        got = read_dataset(DicomBytesIO(b"".join(ready.chunks)), False, True)
    assert "PatientName" not in got
    original = pydicom.dcmread(BytesIO(content))
    assert len(got.PixelData) == original.Rows * original.Columns * original.BitsAllocated // 8
