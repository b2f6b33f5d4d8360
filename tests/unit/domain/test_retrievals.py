"""What a retrieval asks for, and what its counts make of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.attributes import Level
from gantry_domain.find_identifier import FindIdentifier, RequestedKey
from gantry_domain.information_models import PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT
from gantry_domain.query import BadQuery, OneOf
from gantry_domain.retrieve_question import RetrieveQuestion, retrieve_question
from gantry_domain.sub_operations import SubOperations

LEVEL, PATIENT, STUDY, SERIES, IMAGE = 0x00080052, 0x00100020, 0x0020000D, 0x0020000E, 0x00080018


def identifier(**values: str) -> FindIdentifier:
    tags = {"level": LEVEL, "patient": PATIENT, "study": STUDY, "series": SERIES, "image": IMAGE}
    keys = (RequestedKey(tags[name], "LO", text) for name, text in values.items())
    return FindIdentifier(tuple(sorted(keys, key=lambda key: key.tag)), None)


def asked(question: RetrieveQuestion) -> dict[str, tuple[str, ...]]:
    found = {}
    for key in question.keys:
        assert isinstance(key.test, OneOf)
        found[key.attribute.keyword] = key.test.values
    return found


def test_each_unique_key_down_to_the_level() -> None:
    question = retrieve_question(
        identifier(level="IMAGE", patient="P", study="1.2", series="1.3\\1.4", image="1.5"),
        model=PATIENT_ROOT,
    )
    assert question.level is Level.INSTANCE
    assert asked(question) == {
        "PatientID": ("P",),
        "StudyInstanceUID": ("1.2",),
        "SeriesInstanceUID": ("1.3", "1.4"),
        "SOPInstanceUID": ("1.5",),
    }
    # Keys below the level mean nothing.
    question = retrieve_question(identifier(level="STUDY", study="1", image="2"), model=STUDY_ROOT)
    assert asked(question) == {"StudyInstanceUID": ("1",)}


def test_a_patient_is_named_and_not_searched_for() -> None:
    question = retrieve_question(identifier(level="PATIENT", patient="A*B "), model=PATIENT_ROOT)
    assert asked(question) == {"PatientID": ("A*B",)}


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"study": "1.2"}, "QueryRetrieveLevel: is missing"),
        ({"level": "PATIENT", "patient": "P"}, "QueryRetrieveLevel: is none of this"),
        ({"level": "STUDY"}, "StudyInstanceUID: must have a value"),
        ({"level": "STUDY", "study": "*"}, "StudyInstanceUID: must have a value"),
        ({"level": "STUDY", "study": "1.2*"}, "StudyInstanceUID: a UID takes no wildcards"),
        ({"level": "SERIES", "series": "1.3"}, "StudyInstanceUID: must have a value"),
    ],
)
def test_what_cannot_be_retrieved(values: dict[str, str], complaint: str) -> None:
    with pytest.raises(BadQuery, match=complaint.replace("*", r"\*")):
        retrieve_question(identifier(**values), model=STUDY_ROOT)


def test_a_relational_one_needs_the_key_of_its_level_alone() -> None:
    ds = identifier(level="IMAGE", image="1.5")
    question = retrieve_question(ds, model=STUDY_ROOT, relational=True)
    assert asked(question) == {"SOPInstanceUID": ("1.5",)}
    with pytest.raises(BadQuery, match="SOPInstanceUID"):
        retrieve_question(identifier(level="IMAGE", study="1"), model=STUDY_ROOT, relational=True)


def test_the_levels_of_the_models() -> None:
    assert PATIENT_STUDY_ONLY.above(Level.STUDY) == (Level.PATIENT,)
    assert PATIENT_STUDY_ONLY.level_named("SERIES") is None
    assert STUDY_ROOT.above(Level.STUDY) == ()
    assert PATIENT_ROOT.above(Level.INSTANCE) == (Level.PATIENT, Level.STUDY, Level.SERIES)


counts = st.integers(0, 5)


@given(counts, counts, counts, counts)
def test_the_final_status(remaining: int, completed: int, failed: int, warning: int) -> None:
    found = SubOperations(remaining=remaining, completed=completed, failed=failed, warning=warning)
    status = found.final_status()
    assert (status.code == 0) == (not failed and not warning)
    assert (status.code == 0xA702) == (failed > 0 and not completed and not warning)
    assert status.code in (0, 0xA702, 0xB000)
    assert found.final_status(cancelled=True).code == 0xFE00
