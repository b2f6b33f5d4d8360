"""What the limit of images at the door knows of the index, and tells it."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.sop_classes import STORAGE_CLASSES

IMAGES = frozenset(uid for uid, each in STORAGE_CLASSES.items() if each.image)

_MOST = 100_000


def images_of_study(
    connection: Connection, *, partition: str, StudyInstanceUID: str
) -> Sequence[str]:
    """The SOP Instance UIDs of the images that a study has."""
    return connection.scalars(
        sa.text(
            "SELECT i.sop_instance_uid FROM study t JOIN series s ON s.study_pk = t.pk"
            " JOIN instance i ON i.series_pk = s.pk AND i.sop_class_uid = ANY(:classes)"
            " WHERE t.partition = :partition AND t.study_instance_uid = :uid LIMIT :most"
        ),
        {
            "partition": partition,
            "uid": StudyInstanceUID,
            "classes": sorted(IMAGES),
            "most": _MOST,
        },
    ).all()


def note_refusal(connection: Connection, *, partition: str, StudyInstanceUID: str) -> None:
    """An image of the study was refused: it is to be judged anew."""
    connection.execute(
        sa.text(
            "INSERT INTO door_refusal (partition, study_instance_uid, refused, last_at)"
            " VALUES (:partition, :uid, 1, now()) ON CONFLICT (partition, study_instance_uid)"
            " DO UPDATE SET refused = door_refusal.refused + 1, last_at = excluded.last_at"
        ),
        {"partition": partition, "uid": StudyInstanceUID},
    )
    connection.execute(
        sa.text(
            "INSERT INTO evidence_change (partition, study_instance_uid) VALUES (:partition, :uid)"
        ),
        {"partition": partition, "uid": StudyInstanceUID},
    )


def refusals_of(
    connection: Connection, studies: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], int]:
    """How often an image of these studies (partition and UID) was refused; absent: never."""
    wanted = list(studies)
    rows = connection.execute(
        sa.text(
            "SELECT d.partition, d.study_instance_uid, d.refused FROM door_refusal d"
            " JOIN unnest(CAST(:partitions AS text[]), CAST(:uids AS text[])) AS w(partition, uid)"
            " ON d.partition = w.partition AND d.study_instance_uid = w.uid"
        ),
        {"partitions": [each[0] for each in wanted], "uids": [each[1] for each in wanted]},
    )
    return {(row.partition, row.study_instance_uid): row.refused for row in rows}
