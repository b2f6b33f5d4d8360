"""A row of the feed as an event."""

from typing import Any

from sqlalchemy.engine import Row

from gantry_domain.events import Event, EventKind, Happening


def event_of(row: Row[Any]) -> Event:
    """The event of a row that has the columns of `event`."""
    return Event(
        row.id,
        row.at,
        Happening(
            kind=EventKind(row.kind),
            partition=row.partition,
            StudyInstanceUID=row.study_instance_uid,
            SeriesInstanceUID=row.series_instance_uid,
            SOPInstanceUID=row.sop_instance_uid,
            instances=row.instances,
            destination=row.destination,
            visible=row.visible,
        ),
    )
