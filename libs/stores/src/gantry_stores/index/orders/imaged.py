"""The procedure that a study is of: that of its order, or what the study itself says."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.hl7.status_update import ImagedProcedure
from gantry_stores.index.decisions import standings

# The order that a person gave it counts, then that of its UID, then that of its number.
_OF_STUDY = """
    SELECT t.modalities_in_study, t.attributes, p.attributes AS patient,
           o.attributes AS of_order, o.patient AS of_patient
    FROM study t JOIN patient p ON p.pk = t.patient_pk
    LEFT JOIN LATERAL (
        SELECT o.attributes, q.attributes AS patient
        FROM order_ o JOIN order_patient q ON q.pk = o.patient_pk
        WHERE o.partition = t.partition
          AND (o.study_instance_uid IN (t.study_instance_uid, :linked)
               OR o.accession_number = t.accession_number)
        ORDER BY (o.study_instance_uid = :linked) DESC,
                 (o.study_instance_uid = t.study_instance_uid) DESC, o.pk LIMIT 1
    ) o ON true
    WHERE t.partition = :partition AND t.study_instance_uid = :study AND t.visible
"""


def imaged_procedure(
    connection: Connection, partition: str, StudyInstanceUID: str
) -> ImagedProcedure | None:
    """The procedure of a study that can be seen; None: there is none such."""
    key = (partition, StudyInstanceUID)
    standing = standings(connection, [key]).get(key)
    row = connection.execute(
        sa.text(_OF_STUDY),
        {
            "partition": partition,
            "study": StudyInstanceUID,
            "linked": standing.linked if standing else "",
        },
    ).one_or_none()
    if row is None:
        return None
    return ImagedProcedure(
        StudyInstanceUID=StudyInstanceUID,
        modalities=row.modalities_in_study,
        patient=row.patient if row.of_patient is None else row.of_patient,
        order=row.attributes if row.of_order is None else row.of_order,
    )
