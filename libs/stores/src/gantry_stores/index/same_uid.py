"""What the index holds already of SOP Instance UIDs that have just come again."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import any_, func, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection
from sqlalchemy.types import Text

from gantry_stores.index.identity_tables import moved_object
from gantry_stores.index.schema import object_


@dataclass(frozen=True, slots=True)
class Kept:
    """The object that counts; hash and UIDs are those of its data set as sent."""

    object_id: UUID
    sha256: bytes | None
    SOPClassUID: str
    StudyInstanceUID: str
    SeriesInstanceUID: str


def kept_objects(
    connection: Connection, uids: Collection[str], *, partition: str
) -> dict[str, Kept]:
    """The primary object of each SOP Instance UID that has one."""
    statement = select(
        object_.c.sop_instance_uid,
        object_.c.id,
        object_.c.sha256,
        object_.c.sop_class_uid,
        func.coalesce(moved_object.c.sent_study_instance_uid, object_.c.study_instance_uid),
        object_.c.series_instance_uid,
    )
    statement = statement.select_from(
        object_.outerjoin(moved_object, moved_object.c.object_id == object_.c.id)
    ).where(
        object_.c.partition == partition,
        object_.c.sop_instance_uid == any_(sql_cast(list(uids), ARRAY(Text))),
        object_.c.state == "primary",
    )
    return {row[0]: Kept(*row[1:]) for row in connection.execute(statement)}
