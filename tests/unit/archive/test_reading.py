"""Reading a stored object: what is wrong with it, and whose rules apply."""

import pytest

from gantry_archive import reading
from gantry_archive.reading import UNEXPECTED, ReadingRules, read_object, reading_rules
from gantry_domain.entries import Entry, Unreadable
from gantry_domain.receipts import Receipt
from gantry_runtime.partners import Partner
from gantry_stores.objects import DirectoryStore
from gantry_testkit.stored import encoded, image, stage


@pytest.fixture
def store(tmp_path):
    return DirectoryStore(tmp_path)


def test_partners_make_rules_whatever_the_case_of_their_titles():
    rules = reading_rules(
        [
            Partner(ae_title="CT01", charset="GB18030"),
            Partner(ae_title="Us02", duplicates="take_last"),
        ]
    )
    assert rules == ReadingRules({"ct01": "GB18030"}, frozenset({"us02"}))


def test_the_facts_of_an_object(store):
    ds = image()
    sent = stage(store, ds, calling_ae="CT01", partition="north")
    read = read_object(sent.receipt, store=store, rules=ReadingRules())
    assert isinstance(read.entry, Entry)
    assert read.weight > 500
    assert (read.entry.size, read.entry.sha256) == (sent.size, sent.sha256)
    assert read.entry.size - read.entry.dataset_offset == len(encoded(ds))
    assert (read.entry.calling_ae, read.entry.called_ae) == ("CT01", "GANTRY")
    assert read.entry.study_key == ("north", ds.StudyInstanceUID)
    assert read.entry.instance_key == ("north", ds.SOPInstanceUID)


def test_a_hash_that_is_not_told_is_computed_for_what_is_unreadable_too(store):
    sent = stage(store, image(StudyInstanceUID=""), partition="north")
    told = read_object(sent.receipt, store=store, rules=ReadingRules())
    untold = read_object(Receipt(sent.object_id), store=store, rules=ReadingRules())
    assert told == untold
    assert told.entry == Unreadable(
        sent.object_id, sent.size, sent.sha256, "missing_study_uid", "north"
    )


def test_a_defect_of_ours_is_the_objects_own_trouble(store, monkeypatch, capsys):
    def fail(*_arguments, **_names):
        raise IndexError("Yamada")

    monkeypatch.setattr(reading, "read_header", fail)
    sent = stage(store, image())
    read = read_object(sent.receipt, store=store, rules=ReadingRules())
    assert isinstance(read.entry, Unreadable)
    assert read.entry.reason == UNEXPECTED
    logged = capsys.readouterr().err
    assert "IndexError" in logged
    assert "Yamada" not in logged
