"""Tells destinations that what they have of a study is not to be used any more: rejection notes.

Those alone that are configured to understand them (`rejection_notes`). The note is planned in the
transaction of the decision that it is about.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection

from gantry_domain.keys import new_object_id
from gantry_domain.rejection_notes import Rejected, RejectionNote, RejectionTitle, rejection_note
from gantry_runtime.settings import Settings
from gantry_stores.index.delivery_corrections import plan_corrected
from gantry_stores.index.rejections import (
    FormerStudy,
    holders,
    plan_rejection,
    rejected_by,
    study_as_it_is,
    take_rejections_back,
    write_note,
)

_UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Rejecting:
    """Who is told by notes: `titles` has, by destination, that of a note before new values of the
    same instances. `zone` is that of its dates."""

    titles: Mapping[str, RejectionTitle] = field(default_factory=dict)
    zone: ZoneInfo = _UTC

    def replaced(
        self, connection: Connection, planned: Mapping[str, int], former: FormerStudy | None
    ) -> None:
        """New values are planned, by destination: what is there of the former ones is rejected
        before."""
        if former is None:
            return
        for destination, delivery in planned.items():
            title = self.titles.get(destination)
            if title is not None:
                rejected = rejected_by(connection, delivery)
                write_note(connection, delivery, self._note(title, rejected, former))

    def refused(self, connection: Connection, *, partition: str, StudyInstanceUID: str) -> None:
        """A person refused a study: whoever has it is told."""
        former = study_as_it_is(connection, partition=partition, StudyInstanceUID=StudyInstanceUID)
        if former is None:
            return
        found = holders(connection, partition=partition, StudyInstanceUID=StudyInstanceUID)
        for destination in sorted(found.keys() & self.titles.keys()):
            delivery = plan_rejection(
                connection, destination, partition=partition, StudyInstanceUID=StudyInstanceUID
            )
            note = self._note(RejectionTitle.PATIENT_SAFETY, found[destination], former)
            write_note(connection, delivery, note)

    def taken_back(self, connection: Connection, *, partition: str, StudyInstanceUID: str) -> None:
        """The refusal is undone: whoever may have been told of it gets the study again."""
        told = take_rejections_back(
            connection, partition=partition, StudyInstanceUID=StudyInstanceUID
        )
        if told:
            plan_corrected(
                connection, partition=partition, StudyInstanceUID=StudyInstanceUID, only=told
            )

    def _note(
        self, title: RejectionTitle, rejected: list[Rejected], former: FormerStudy
    ) -> RejectionNote:
        return rejection_note(
            new_object_id(),
            title,
            rejected,
            StudyInstanceUID=former.StudyInstanceUID,
            attributes=former.attributes,
            at=datetime.now(self.zone),
        )


def rejecting_of(settings: Settings) -> Rejecting:
    """Those partners of the configuration that are told."""
    titles = {
        partner.ae_title: RejectionTitle(partner.replaced_title)
        for partner in settings.partners
        if partner.rejection_notes
    }
    return Rejecting(titles, settings.zone)
