"""Every storage class in every transfer syntax: negotiated, and stored as it was sent."""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pydicom
import pytest

from gantry_archive.staging import Stager
from gantry_dimse.contexts import SupportedContexts
from gantry_dimse.partners import Partners
from gantry_dimse.proposals import ProposedContext
from gantry_dimse.send import StorageAssociation
from gantry_domain.private_sop_classes import PRIVATE_SOP_CLASSES
from gantry_domain.receipts import Receipt
from gantry_domain.sop_classes import STORAGE_CLASSES
from gantry_domain.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
)
from gantry_ingress.reception import StoreService
from gantry_stores.objects import DirectoryStore
from gantry_testkit.door import Door
from gantry_testkit.tiny_objects import OTHER_CLASS, data_set, instance_uid

MOST_CONTEXTS = 128  # PS3.8 9.3.2.2: odd ids from 1 to 255

# What most devices send; all others have their turn with what is slow.
MOST_SENT = (
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    *("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80"),
    *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.5"),
)

# The storage classes of the Medstrat echoes conformance statement, below 1.2.840.10008.5.1.
MEDSTRAT = [
    "1.2.840.10008.5.1." + each
    for each in """
    1.27 1.29 1.30
    4.1.1.1 4.1.1.1.1 4.1.1.1.1.1 4.1.1.1.2 4.1.1.1.2.1 4.1.1.1.3 4.1.1.1.3.1 4.1.1.2 4.1.1.2.1
    4.1.1.3 4.1.1.3.1 4.1.1.4 4.1.1.4.1 4.1.1.4.2 4.1.1.5 4.1.1.6 4.1.1.6.1 4.1.1.7 4.1.1.7.1
    4.1.1.7.2 4.1.1.7.3 4.1.1.7.4 4.1.1.8 4.1.1.9 4.1.1.9.1 4.1.1.9.1.1 4.1.1.9.1.2 4.1.1.9.1.3
    4.1.1.9.2.1 4.1.1.9.3.1 4.1.1.9.4.1 4.1.1.10 4.1.1.11 4.1.1.11.1 4.1.1.11.2 4.1.1.11.3
    4.1.1.11.4 4.1.1.12.1 4.1.1.12.1.1 4.1.1.12.2 4.1.1.12.2.1 4.1.1.12.3 4.1.1.20 4.1.1.66
    4.1.1.66.1 4.1.1.66.2 4.1.1.67 4.1.1.77.1 4.1.1.77.1.1 4.1.1.77.1.1.1 4.1.1.77.1.2
    4.1.1.77.1.2.1 4.1.1.77.1.3 4.1.1.77.1.4 4.1.1.77.1.4.1 4.1.1.77.1.5.1 4.1.1.77.1.5.2
    4.1.1.77.1.5.3 4.1.1.77.2 4.1.1.88.1 4.1.1.88.2 4.1.1.88.3 4.1.1.88.4 4.1.1.88.11 4.1.1.88.22
    4.1.1.88.33 4.1.1.88.40 4.1.1.88.50 4.1.1.88.59 4.1.1.88.65 4.1.1.88.67 4.1.1.104.1 4.1.1.128
    4.1.1.129 4.1.1.481.1 4.1.1.481.2 4.1.1.481.3 4.1.1.481.4 4.1.1.481.5 4.1.1.481.6 4.1.1.481.7
    """.split()
]


def batches(pairs: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """As many as fit into one association."""
    for begin in range(0, len(pairs), MOST_CONTEXTS):
        yield pairs[begin : begin + MOST_CONTEXTS]


def send(door: Door, pairs: list[tuple[str, str]]) -> list[int]:
    """The statuses of one object for each pair of class and syntax, each in its own context."""
    with StorageAssociation.open(
        host="127.0.0.1",
        port=door.port,
        calling_ae="CT01",
        called_ae="GANTRY",
        contexts=[ProposedContext(cl, (ts,)) for cl, ts in pairs],
    ) as assoc:
        statuses = []
        for SOPClassUID, transfer_syntax in pairs:
            context = assoc.accepts(SOPClassUID, transfer_syntax)
            assert context is not None, (SOPClassUID, transfer_syntax)
            answer = assoc.store(
                SOPClassUID=SOPClassUID,
                SOPInstanceUID=instance_uid(SOPClassUID, transfer_syntax),
                context=context,
                chunks=[data_set(SOPClassUID, transfer_syntax)],
            )
            statuses.append(answer.status)
        return statuses


def test_the_table_is_whole() -> None:
    assert len(set(MEDSTRAT)) == 84
    assert set(MEDSTRAT) <= set(STORAGE_CLASSES)
    assert set(PRIVATE_SOP_CLASSES) <= set(STORAGE_CLASSES)
    assert len(STORAGE_CLASSES) > 250
    assert len(TRANSFER_SYNTAXES) > 50


@pytest.mark.parametrize(
    "transfer_syntax",
    [
        pytest.param(each, marks=() if each in MOST_SENT else pytest.mark.slow)
        for each in TRANSFER_SYNTAXES
    ],
)
def test_every_class_in_this_syntax(open_door: Callable[..., Door], transfer_syntax: str) -> None:
    door = open_door()
    pairs = [(each, transfer_syntax) for each in STORAGE_CLASSES]
    for batch in batches(pairs):
        assert send(door, batch) == [0] * len(batch)
    assert [
        (request.SOPClassUID, request.transfer_syntax, request.SOPInstanceUID, content)
        for request, content in door.storage.stored
    ] == [(cl, ts, instance_uid(cl, ts), data_set(cl, ts)) for cl, ts in pairs]


def test_each_class_and_each_syntax_in_a_real_store(
    open_door: Callable[..., Door], tmp_path: Path
) -> None:
    """Walked as the ingress walks it: its first bytes are read in the syntax that was accepted."""
    (tmp_path / "objects").mkdir()
    store = DirectoryStore(tmp_path / "objects")
    receipts: list[Receipt] = []
    stager = Stager(store=store, publish=receipts.append, max_object_size=2**20, store_patience=1.0)
    partners = Partners(own_titles=["GANTRY"], callers=[], accept_unknown=True)
    door = open_door(handler=StoreService(stager, partners=partners))
    syntaxes = list(TRANSFER_SYNTAXES)
    pairs = [(cl, syntaxes[n % len(syntaxes)]) for n, cl in enumerate(STORAGE_CLASSES)]
    for batch in batches(pairs):
        assert send(door, batch) == [0] * len(batch)
    assert len(receipts) == len(pairs)
    found = []
    for entry in store.list("objects/"):
        content = (tmp_path / "objects" / entry.key).read_bytes()
        meta = pydicom.filereader.read_file_meta_info(tmp_path / "objects" / entry.key)
        pair = (str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))
        assert meta.MediaStorageSOPInstanceUID == instance_uid(*pair)
        assert content.endswith(data_set(*pair))
        found.append(pair)
    assert sorted(found) == sorted(pairs)


def test_other_private_classes_by_configuration(open_door: Callable[..., Door]) -> None:
    supported = SupportedContexts(storage_classes=[*STORAGE_CLASSES, OTHER_CLASS])
    door = open_door(supported=supported)
    pairs = list(product([OTHER_CLASS], TRANSFER_SYNTAXES))
    assert send(door, pairs) == [0] * len(pairs)
