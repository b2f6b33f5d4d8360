"""An archive whose studies people correct, with what is asked of it and where it sends to."""

import hashlib
import io
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pydicom
from pydicom import Dataset
from sqlalchemy.engine import Engine

from gantry_archive.deciding import Decider
from gantry_dimse.server import DimseServer
from gantry_domain.decisions import DecisionKind
from gantry_domain.policies.rules import PolicySet
from gantry_query.access import Client, Right, TokenAccess
from gantry_stores.index.database import transaction
from gantry_stores.index.judged_studies import JudgedStudy, find_judged
from gantry_testkit.forwarding import AnsweringScp, ForwardingArchive
from gantry_testkit.stored import NO_POLICIES, image, new_uid, rows, stage

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
RIGHT = {"PatientID": "A1234563", "PatientName": "CHAN^TAI MAN=陳^大文", "PatientBirthDate": ""}
"""What the patient of the images is, who were sent as another."""


@dataclass(frozen=True, slots=True)
class Site:
    """An archive, what of it is asked over DIMSE, and where it sends to."""

    archive: ForwardingArchive
    server: DimseServer
    peer: AnsweringScp
    serve: Callable[..., AbstractContextManager[str]]

    @property
    def engine(self) -> Engine:
        return self.archive.engine

    def decider(self, policies: PolicySet = NO_POLICIES) -> Decider:
        return Decider(store=self.archive.store, engine=self.engine, policies=policies, feed=None)

    def find(self, study: str) -> JudgedStudy:
        with transaction(self.engine) as connection:
            (found,) = find_judged(connection, study)
        return found

    def correct(self, study: str, policies: PolicySet = NO_POLICIES, **values: str) -> None:
        self.decider(policies).decide(
            self.find(study), DecisionKind.CORRECT, corrected=values, by="Dr Ho", reason="mistyped"
        )

    def move(
        self,
        study: str,
        series: Collection[str],
        to: str,
        policies: PolicySet = NO_POLICIES,
        *,
        new: bool = False,
    ) -> None:
        self.decider(policies).move(
            self.find(study), series=series, to=to, new=new, by="Dr Ho", reason="mixed up"
        )

    def undo(self, study: str, policies: PolicySet = NO_POLICIES) -> None:
        self.decider(policies).undo_last(self.find(study), by="Dr Ho", reason="it was right")

    def images(self, count: int = 2, **values: Any) -> str:
        study, series = new_uid(), new_uid()
        for number in range(count):
            self.image(study, series, number, **values)
        return study

    def image(self, study: str, series: str, number: int = 1, **values: Any) -> None:
        ds = image(
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            InstanceNumber=str(number),
            **{"PatientID": "P9", "PatientName": "CHAN^MAN", "PatientBirthDate": "19700102"}
            | values,
        )
        self.archive.index(stage(self.archive.store, ds))

    @contextmanager
    def who_decides(self) -> Iterator[httpx.Client]:
        """A web client that signed in and may decide, at the root of the server."""
        token = "v" * 20
        client = Client("dr-ho", frozenset({Right.READ, Right.REVIEW, Right.DECIDE}))
        access = TokenAccess([(client, [token])])
        with (
            self.serve(
                self.engine, self.archive.store, access=access, policies=NO_POLICIES
            ) as base,
            httpx.Client(
                base_url=base.removesuffix("/dicomweb"),
                headers={"Authorization": f"Bearer {token}"},
                timeout=60,
            ) as signed_in,
        ):
            yield signed_in

    def held_by(self, study: str) -> list[str]:
        """The hashes of what is stored of a study."""
        found = rows(self.engine, "SELECT id FROM object WHERE study_instance_uid = :s", s=study)
        ids = {str(row[0]) for row in found}
        store = self.archive.store
        return sorted(
            hashlib.sha256(store.read(stat.key)).hexdigest()
            for stat in store.list("objects/")
            if Path(stat.key).stem in ids
        )


def check(ds: Dataset, *, steps: int = 1, text: str = RIGHT["PatientName"]) -> None:
    """It has the new values, and tells of the old ones."""
    assert (ds.PatientID, str(ds.PatientName), ds.PatientBirthDate) == ("A1234563", text, "")
    assert len(ds.OriginalAttributesSequence) == steps
    item = ds.OriginalAttributesSequence[0]
    assert item.ReasonForTheAttributeModification == "CORRECT"
    assert item.ModifyingSystem == "Gantry"
    (before,) = item.ModifiedAttributesSequence
    assert (before.PatientID, before.PatientName) == ("P9", "CHAN^MAN")
    assert before.PatientBirthDate == "19700102"
    assert len(ds.PixelData) == 512


def read(encoded: bytes, syntax: str = EXPLICIT) -> Dataset:
    """A data set with or without file meta information."""
    if encoded[128:132] == b"DICM":
        return pydicom.dcmread(io.BytesIO(encoded))
    return pydicom.filereader.read_dataset(
        io.BytesIO(encoded), syntax == IMPLICIT, is_little_endian=True
    )
