"""Which instances of a study can be retrieved, and which no longer, as the index has it now."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.availability import InstanceAvailability
from gantry_domain.events import Event, EventKind, Happening

_OF_STUDY = """
    SELECT s.series_instance_uid, i.sop_class_uid, i.sop_instance_uid, t.visible
    FROM study t JOIN series s ON s.study_pk = t.pk JOIN instance i ON i.series_pk = s.pk
    WHERE t.partition = :partition AND t.study_instance_uid = :study
"""

# What came again, or was restored, is there under the same UID.
_DELETED = """
    SELECT DISTINCT o.series_instance_uid, o.sop_class_uid, o.sop_instance_uid, false
    FROM object o JOIN deleted_object d ON d.object_id = o.id
    WHERE o.partition = :partition AND o.study_instance_uid = :study AND o.state = 'deleted'
      AND (CAST(:series AS text) IS NULL OR o.series_instance_uid = :series)
      AND (CAST(:instance AS text) IS NULL OR o.sop_instance_uid = :instance)
      AND NOT EXISTS (SELECT 1 FROM instance i WHERE i.partition = o.partition
                      AND i.sop_instance_uid = o.sop_instance_uid)
"""

_WAS_ONLINE = """
    SELECT EXISTS (
        SELECT 1 FROM event WHERE partition = :partition AND id < :id AND visible
        AND study_instance_uid = :study AND kind = ANY(:kinds))
"""

SAYS_ONLINE = frozenset((EventKind.COMPLETE, EventKind.RELEASED, EventKind.RESTORED))
"""What happens to a study that can be retrieved from then on."""


def was_online(connection: Connection, event: Event) -> bool:
    """Whether the feed, as far as it is kept, said before this event that the study is online."""
    found = connection.scalar(
        sa.text(_WAS_ONLINE),
        {
            "partition": event.happening.partition,
            "id": event.id,
            "study": event.happening.StudyInstanceUID,
            "kinds": sorted(kind.value for kind in SAYS_ONLINE),
        },
    )
    return bool(found)


def instances_of_study(
    connection: Connection, partition: str, StudyInstanceUID: str
) -> list[InstanceAvailability]:
    """All of a study: online where the study is visible."""
    found = connection.execute(
        sa.text(_OF_STUDY), {"partition": partition, "study": StudyInstanceUID}
    )
    return [InstanceAvailability(*row) for row in found]


def deleted_instances(connection: Connection, happening: Happening) -> list[InstanceAvailability]:
    """What was deleted and is not back: of the instance, the series or the study."""
    found = connection.execute(
        sa.text(_DELETED),
        {
            "partition": happening.partition,
            "study": happening.StudyInstanceUID,
            "series": happening.SeriesInstanceUID,
            "instance": happening.SOPInstanceUID,
        },
    )
    return [InstanceAvailability(*row) for row in found]
