"""What index and rules say of corrected studies: until it is undone, and after a reindex."""

import pytest

from gantry_archive.deciding import NotDecided
from gantry_archive.deleting import Subject, delete_subject
from gantry_archive.judging import judge_studies
from gantry_archive.reindex import reindex
from gantry_domain.policies.findings import Action
from gantry_domain.policies.patient_identity import PatientIdentity
from gantry_domain.policies.rules import PolicySet
from gantry_domain.sight import Sight
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine
from gantry_testkit.correcting_site import RIGHT, Site
from gantry_testkit.stored import NO_POLICIES, new_uid, rows, snapshot

IDENTITY = PolicySet.of([PatientIdentity(Action.HOLD)])


def test_the_rules_judge_what_is_corrected_and_undone_all_is_as_it_was(site: Site) -> None:
    study = site.images(PatientID="A123456(4)")
    judge_studies(site.engine, IDENTITY)
    rows(site.engine, "UPDATE study SET judged_by = NULL, visible = false RETURNING 1")
    judge_studies(site.engine, IDENTITY)
    before = snapshot(site.engine)
    assert str(site.find(study).verdict) == "held"
    site.correct(study, IDENTITY, PatientID="A123456(3)")
    assert str(site.find(study).verdict) == "accepted"
    site.correct(study, IDENTITY, AccessionNumber="N1", PatientName="LEE")
    # What comes later to the study follows, whoever it says that it is of.
    (series,) = rows(
        site.engine,
        "SELECT series_instance_uid FROM series e JOIN study s ON s.pk = e.study_pk"
        " WHERE s.study_instance_uid = :study",
        study=study,
    )
    uid = new_uid()
    site.image(study, *series, 7, SOPInstanceUID=uid)
    (found,) = rows(
        site.engine,
        "SELECT patient_id, accession_number, patient_name, number_of_study_related_instances"
        " FROM study WHERE study_instance_uid = :study",
        study=study,
    )
    assert found == ("A123456(3)", "N1", "lee", 3)
    identities = rows(
        site.engine,
        "SELECT DISTINCT i.patient_identity FROM instance i JOIN series e ON e.pk = i.series_pk"
        " JOIN study s ON s.pk = e.study_pk WHERE s.study_instance_uid = :study",
        study=study,
    )
    assert identities == [('patient:["A123456(3)",""]',)]
    with pytest.raises(NotDecided, match="nothing else"):
        site.correct(study, Modality="MR")
    with pytest.raises(NotDecided, match="is no date"):
        site.correct(study, StudyDate="tomorrow")
    for _ in range(2):
        site.undo(study, IDENTITY)
    assert rows(
        site.engine,
        "SELECT count(*) FROM sent_header h JOIN object o ON o.id ="
        " h.object_id WHERE o.study_instance_uid = :study",
        study=study,
    ) == [(0,)]
    after = snapshot(site.engine)
    assert after["patient"] == before["patient"]
    assert str(site.find(study).verdict) == "held"
    # But for the one that came, all rows are those from before.
    assert set(before["header"]) <= set(after["header"])
    assert set(before["instance"]) <= set(after["instance"])


def test_a_reindex_is_corrected_too(site: Site, empty_database_url: str) -> None:
    study, undone = site.images(), site.images()
    for uid in (study, undone):
        site.correct(uid, **RIGHT)
    site.correct(study, StudyID="7")
    site.undo(undone)
    rows(site.engine, "UPDATE study SET judged_by = NULL, visible = false RETURNING 1")
    judge_studies(site.engine, NO_POLICIES)
    migrations.upgrade(empty_database_url)
    anew = make_engine(empty_database_url)
    reindex(site.archive.store, anew, policies=NO_POLICIES)
    one, other = snapshot(site.engine), snapshot(anew)
    for table, content in one.items():
        assert content == other[table], table
    sql = "SELECT * FROM sent_header ORDER BY 1"
    assert rows(anew, sql) == rows(site.engine, sql)
    assert len(rows(anew, sql)) >= 2
    anew.dispose()


def test_the_queue_over_http(site: Site) -> None:
    study = site.images(1)
    with site.who_decides() as client:
        asked = {"kind": "correct", "reason": "mistyped", "attributes": RIGHT}
        path = f"/held/{study}"
        assert client.post(f"{path}/decisions", json=asked).json()["verdict"] == "accepted"
        shown = client.get(path).json()
        assert (shown["PatientID"], shown["PatientName"]) == (
            RIGHT["PatientID"],
            RIGHT["PatientName"],
        )
        (made,) = shown["decisions"]
        assert (made["by"], made["attributes"]) == ("dr-ho", RIGHT)
        asked["attributes"] = {"PatientSex": "male"}
        refused = client.post(f"{path}/decisions", json=asked)
        assert refused.status_code == 409
        assert "male" not in refused.text
        asked["attributes"] = {"PatientSex": 3}  # type: ignore[dict-item]
        assert client.post(f"{path}/decisions", json=asked).status_code == 400


def test_deleted_and_sent_again_it_is_corrected_still(site: Site) -> None:
    study = site.images(1)
    site.correct(study, **RIGHT)
    sql = "SELECT patient_id, corrected FROM study WHERE study_instance_uid = :study"
    assert rows(site.engine, sql, study=study) == [("A1234563", True)]
    subject = Subject(
        sight=Sight("main"),
        StudyInstanceUID=study,
        SeriesInstanceUID=None,
        SOPInstanceUID=None,
        by="Dr Ho",
    )
    assert delete_subject(site.archive.store, site.engine, subject) == 1
    assert rows(site.engine, sql, study=study) == []
    site.image(study, new_uid())
    assert rows(site.engine, sql, study=study) == [("A1234563", True)]
