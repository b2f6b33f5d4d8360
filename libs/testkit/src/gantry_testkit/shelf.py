"""An index and a store whose images are deleted, restored and purged as the services do it."""

from collections.abc import Sequence
from datetime import timedelta

from pydicom import Dataset
from sqlalchemy.engine import Engine

from gantry_archive.deleting import Subject, delete_subject, purge_deleted, restore_deleted
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_domain.deletions import Restoration
from gantry_domain.keys import new_object_id
from gantry_domain.sight import Sight
from gantry_stores.index.database import transaction
from gantry_stores.index.deletions import list_deletions, marked_deletions, take_back
from gantry_stores.objects import ObjectStore
from gantry_testkit.stored import (
    NO_POLICIES,
    Sent,
    image,
    new_uid,
    receipts,
    rows,
    stage,
)

RULES = ReadingRules()
"""How it reads what it indexes."""
NOW = timedelta(microseconds=1)


class Shelf:
    """An index and a store, and what is put into them."""

    def __init__(self, engine: Engine, store: ObjectStore) -> None:
        self.engine = engine
        self.store = store

    def put(self, *datasets: Dataset, partition: str = "main") -> list[Sent]:
        sent = [stage(self.store, ds, partition=partition) for ds in datasets]
        self.index(sent)
        return sent

    def index(self, sent: Sequence[Sent]) -> None:
        index_batch(receipts(sent), store=self.store, engine=self.engine, rules=RULES)
        judge_studies(self.engine, NO_POLICIES)

    def delete(self, ds: Dataset, level: str = "study", *, held: bool = False) -> int | None:
        return delete_subject(
            self.store,
            self.engine,
            Subject(
                sight=Sight("main", held=held),
                StudyInstanceUID=ds.StudyInstanceUID,
                SeriesInstanceUID=ds.SeriesInstanceUID if level != "study" else None,
                SOPInstanceUID=ds.SOPInstanceUID if level == "instance" else None,
                by="ann",
            ),
        )

    def restore(self, ds: Dataset) -> None:
        with transaction(self.engine) as connection:
            for deletion in marked_deletions(connection, ds.StudyInstanceUID):
                restoration = Restoration(
                    id=new_object_id(), deletion_id=deletion.id, restored_by="bob"
                )
                assert take_back(connection, restoration)
        done = restore_deleted(self.store, self.engine, rules=RULES, seconds=20)
        judge_studies(self.engine, NO_POLICIES, done.study_pks)

    def purge(self, after: timedelta = NOW) -> int:
        return purge_deleted(self.store, self.engine, after=after, seconds=20).purged

    def visible(self) -> set[str]:
        found = rows(
            self.engine,
            "SELECT i.sop_instance_uid FROM instance i JOIN series s ON s.pk = i.series_pk"
            " JOIN study t ON t.pk = s.study_pk WHERE t.visible",
        )
        return {uid for (uid,) in found}

    def deletion_states(self) -> list[str]:
        with transaction(self.engine) as connection:
            return [line.state.value for line in list_deletions(connection, limit=100)]


def a_study(*, series: int = 2, images: int = 2, **values: object) -> list[Dataset]:
    study = new_uid()
    return [
        image(
            StudyInstanceUID=study,
            SeriesInstanceUID=uid,
            SeriesNumber=str(number),
            Modality=["CT", "MR"][number % 2],
            InstanceNumber=str(position),
            **values,
        )
        for number, uid in enumerate(new_uid() for _ in range(series))
        for position in range(images)
    ]
