"""Gathers what the rules look at: for some studies at once, and only what a rule asks for."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.attributes import BY_KEYWORD, Level, attributes_at
from gantry_domain.dictionary import KEYWORDS
from gantry_domain.policies import hkid
from gantry_domain.policies.evidence import Evidence, Look, SeriesFacts
from gantry_domain.policies.major_keys import MajorKeys
from gantry_domain.policies.matching import Order
from gantry_domain.policies.standing import Standing
from gantry_domain.routes import StudyFacts
from gantry_stores.index.decisions import standings
from gantry_stores.index.door_limits import IMAGES, refusals_of
from gantry_stores.index.headers import decode_header
from gantry_stores.index.orders.polls import last_heard_at
from gantry_stores.index.quotas import over_quota

COLUMNS = """
    pk, partition, study_instance_uid, revision, evidence_revision, visible, verdict, attributes,
    modalities_in_study, sop_classes_in_study AS sop_classes,
    number_of_study_related_instances AS instances
"""
"""Of a study, what `gather` is given."""

_NAMESAKES = 5
_SERIES = [attribute.keyword for attribute in attributes_at(Level.SERIES)]
_OF_STUDY = [attribute.keyword for attribute in attributes_at(Level.PATIENT, Level.STUDY)]
_PN_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")

_ORDERS = """
    WITH wanted AS (
        SELECT * FROM unnest(CAST(:pks AS bigint[]), CAST(:partitions AS text[]),
                             CAST(:accessions AS text[]), CAST(:uids AS text[]),
                             CAST(:links AS text[])) AS w(pk, partition, accession, uid, link)
    ), found AS (
        SELECT w.pk, o.pk AS order_pk FROM wanted w
        JOIN order_ o ON o.partition = w.partition AND o.accession_number = w.accession
        UNION
        SELECT w.pk, o.pk FROM wanted w
        JOIN order_ o ON o.partition = w.partition AND o.study_instance_uid IN (w.uid, w.link)
    )
    SELECT f.pk, o.accession_number, o.study_instance_uid, p.identity, p.attributes
    FROM found f JOIN order_ o ON o.pk = f.order_pk JOIN order_patient p ON p.pk = o.patient_pk
    ORDER BY f.pk, o.pk
"""

_SENDERS = """
    SELECT s.study_pk AS pk, array_agg(DISTINCT o.calling_ae) FILTER (WHERE o.calling_ae <> '')
               AS calling,
           array_agg(DISTINCT o.called_ae) FILTER (WHERE o.called_ae <> '') AS called
    FROM series s JOIN instance i ON i.series_pk = s.pk JOIN object o ON o.id = i.object_id
    WHERE s.study_pk = ANY(:pks) GROUP BY s.study_pk
"""

_NAMESAKES_OF = """
    SELECT w.pk, count(t.pk) AS others
    FROM unnest(CAST(:pks AS bigint[]), CAST(:partitions AS text[]), CAST(:accessions AS text[]))
         AS w(pk, partition, accession)
    JOIN LATERAL (
        SELECT t.pk FROM study t WHERE t.partition = w.partition AND t.pk <> w.pk
        AND t.accession_number = w.accession LIMIT :most
    ) AS t ON true GROUP BY w.pk
"""


@dataclass(frozen=True, slots=True)
class OrderFeed:
    """Where orders come to, and how long after its last message or poll the feed is alive."""

    partition: str
    alive_for: timedelta

    def alive(self, connection: Connection) -> bool:
        """Whether orders come in."""
        last = last_heard_at(connection)
        return last is not None and datetime.now(UTC) - last < self.alive_for


def gather(
    connection: Connection,
    studies: Sequence[sa.Row[Any]],
    *,
    looks: frozenset[Look] = frozenset(),
    feed: OrderFeed | None = None,
) -> dict[int, Evidence]:
    """The evidence of studies (rows with `COLUMNS`) by pk. `feed`: None where no orders come."""
    if not studies:
        return {}
    texts = {study.pk: _texts(study.attributes) for study in studies}
    images = _images(connection, studies)
    standing = standings(
        connection, [(study.partition, study.study_instance_uid) for study in studies]
    )
    refused = refusals_of(
        connection, ((study.partition, study.study_instance_uid) for study in studies)
    )
    excess = over_quota(
        connection, ((study.partition, study.study_instance_uid) for study in studies)
    )
    of: dict[int, Standing] = {
        study.pk: standing.get((study.partition, study.study_instance_uid), Standing())
        for study in studies
    }
    orders = _orders(connection, studies, texts, of) if Look.ORDERS in looks else {}
    alive = Look.ORDERS in looks and feed is not None and feed.alive(connection)
    senders = _by_pk(connection, _SENDERS, studies) if Look.SENDERS in looks else {}
    series = _series(connection, studies) if Look.SERIES in looks else {}
    patients = _patients(connection, studies) if Look.SERIES in looks else {}
    namesakes = _namesakes(connection, studies, texts) if Look.NAMESAKES in looks else {}
    return {
        study.pk: Evidence(
            **texts[study.pk],
            StudyInstanceUID=study.study_instance_uid,
            images=images[study.pk],
            facts=_facts(study, senders.get(study.pk)),
            present=_present(study.attributes, _OF_STUDY),
            series=tuple(series.get(study.pk, ())),
            patients=frozenset(patients.get(study.pk, ())),
            namesakes=namesakes.get(study.pk, 0),
            refused_at_door=refused.get((study.partition, study.study_instance_uid), 0),
            over_quota=excess.get((study.partition, study.study_instance_uid), frozenset()),
            orders=tuple(orders.get(study.pk, ())),
            feed_alive=alive and feed is not None and feed.partition == study.partition,
            standing=of[study.pk],
        )
        for study in studies
    }


def text_of(attributes: Mapping[str, Any], keyword: str) -> str:
    """The first value of an attribute (DICOM JSON model) as text; a name with its groups."""
    values = attributes.get(f"{KEYWORDS[keyword]:08X}", {}).get("Value", ())
    value = values[0] if values else None
    if isinstance(value, Mapping):
        return "=".join(str(value.get(group, "")) for group in _PN_GROUPS).rstrip("=")
    return "" if value is None else str(value).strip()


_KEYS = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")


def keys_of(attributes: Mapping[str, Any]) -> MajorKeys:
    """The major keys among the attributes of a header, a study or a patient."""
    return MajorKeys(**{keyword: text_of(attributes, keyword) for keyword in _KEYS})


def _texts(attributes: Mapping[str, Any]) -> dict[str, str]:
    wanted = (*_KEYS, "AccessionNumber", "StudyDate")
    return {keyword: text_of(attributes, keyword) for keyword in wanted}


def _present(attributes: Mapping[str, Any], keywords: Iterable[str]) -> frozenset[str]:
    return frozenset(
        keyword for keyword in keywords if attributes.get(BY_KEYWORD[keyword].tag, {}).get("Value")
    )


def _facts(study: sa.Row[Any], senders: sa.Row[Any] | None) -> StudyFacts:
    return StudyFacts(
        partition=study.partition,
        ModalitiesInStudy=tuple(study.modalities_in_study),
        SOPClassesInStudy=tuple(study.sop_classes),
        StudyDescription=text_of(study.attributes, "StudyDescription") or None,
        calling_aes=tuple(senders.calling or ()) if senders else (),
        called_aes=tuple(senders.called or ()) if senders else (),
    )


def _by_pk(
    connection: Connection, sql: str, studies: Sequence[sa.Row[Any]]
) -> dict[int, sa.Row[Any]]:
    rows = connection.execute(sa.text(sql), {"pks": [study.pk for study in studies]})
    return {row.pk: row for row in rows}


def _images(connection: Connection, studies: Sequence[sa.Row[Any]]) -> dict[int, int]:
    """The number of images; counted where a study holds more than images."""
    counts = {study.pk: int(study.instances) for study in studies}
    mixed = [study.pk for study in studies if not IMAGES.issuperset(study.sop_classes)]
    if mixed:
        counts |= dict.fromkeys(mixed, 0)
        rows = connection.execute(
            sa.text(
                "SELECT s.study_pk, count(*) AS images FROM series s JOIN instance i"
                " ON i.series_pk = s.pk AND i.sop_class_uid = ANY(:classes)"
                " WHERE s.study_pk = ANY(:pks) GROUP BY s.study_pk"
            ),
            {"pks": mixed, "classes": sorted(IMAGES)},
        )
        counts |= {row.study_pk: row.images for row in rows}
    return counts


def _orders(
    connection: Connection,
    studies: Sequence[sa.Row[Any]],
    texts: Mapping[int, Mapping[str, str]],
    standing: Mapping[int, Standing],
) -> dict[int, list[Order]]:
    rows = connection.execute(
        sa.text(_ORDERS),
        {
            "pks": [study.pk for study in studies],
            "partitions": [study.partition for study in studies],
            "accessions": [texts[study.pk]["AccessionNumber"] or None for study in studies],
            "uids": [study.study_instance_uid for study in studies],
            "links": [standing[study.pk].linked or None for study in studies],
        },
    )
    found: dict[int, list[Order]] = defaultdict(list)
    for row in rows:
        found[row.pk].append(
            order_of(row.study_instance_uid, row.accession_number, row.identity, row.attributes)
        )
    return found


def order_of(
    StudyInstanceUID: str,
    AccessionNumber: str | None,
    identity: str,
    attributes: Mapping[str, Any],
) -> Order:
    """An order as it is compared, from its row and that of its patient."""
    PatientID, issuer = orjson.loads(identity)
    keys = keys_of(attributes)
    return Order(
        StudyInstanceUID=StudyInstanceUID,
        AccessionNumber=AccessionNumber or "",
        keys=MajorKeys(
            PatientID=PatientID,
            IssuerOfPatientID=issuer,
            PatientName=keys.PatientName,
            PatientBirthDate=keys.PatientBirthDate,
            PatientSex=keys.PatientSex,
        ),
    )


def _series(connection: Connection, studies: Sequence[sa.Row[Any]]) -> dict[int, list[SeriesFacts]]:
    """Each series, with its patient as the header of its source tells."""
    rows = connection.execute(
        sa.text(
            "SELECT s.study_pk, s.attributes, h.codec, h.data FROM series s"
            " LEFT JOIN header h ON h.object_id = s.source WHERE s.study_pk = ANY(:pks)"
            " ORDER BY s.study_pk, s.series_instance_uid"
        ),
        {"pks": [study.pk for study in studies]},
    )
    found: dict[int, list[SeriesFacts]] = defaultdict(list)
    for row in rows:
        header = {} if row.data is None else decode_header(row.codec, row.data)
        found[row.study_pk].append(
            SeriesFacts(present=_present(row.attributes, _SERIES), keys=keys_of(header))
        )
    return found


def _patients(connection: Connection, studies: Sequence[sa.Row[Any]]) -> dict[int, set[str]]:
    """The patients that the instances name, one who is written in two ways counting once."""
    rows = connection.execute(
        sa.text(
            "SELECT DISTINCT s.study_pk, i.patient_identity FROM series s"
            " JOIN instance i ON i.series_pk = s.pk WHERE s.study_pk = ANY(:pks)"
        ),
        {"pks": [study.pk for study in studies]},
    )
    found: dict[int, set[str]] = defaultdict(set)
    for row in rows:
        kind, _, rest = row.patient_identity.partition(":")
        if kind == "patient":
            PatientID, issuer = orjson.loads(rest)
            card = hkid.classify(PatientID) is hkid.HkidForm.VALID
            rest = hkid.canonical(PatientID) + ("" if card else f" {issuer}")
        found[row.study_pk].add(rest)
    return found


def _namesakes(
    connection: Connection,
    studies: Sequence[sa.Row[Any]],
    texts: Mapping[int, Mapping[str, str]],
) -> dict[int, int]:
    rows = connection.execute(
        sa.text(_NAMESAKES_OF),
        {
            "pks": [study.pk for study in studies],
            "partitions": [study.partition for study in studies],
            "accessions": [texts[study.pk]["AccessionNumber"] or None for study in studies],
            "most": _NAMESAKES,
        },
    )
    return {row.pk: row.others for row in rows}
