"""Orders as records of a table, and the states of steps."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.orders.changes import ChangeState, OrderNumbers, PatientKey, PlaceOrder, merged
from gantry_domain.orders.records import BadRecord, order_of
from gantry_domain.orders.states import OPEN, Performed, StepState, may_become, state_after

RECORD = {
    "PatientID": "P1",
    "IssuerOfPatientID": "HOSP",
    "PatientName": "CHAN^TAI MAN=陳^大文",
    "PatientBirthDate": "19700102",
    "PatientSex": "f",
    "PatientWeight": "65.5",
    "AccessionNumber": "A1",
    "StudyInstanceUID": "1.2.3",
    "Modality": "CT",
    "ScheduledStationAETitle": "CT01\\CT02",
    "ScheduledProcedureStepStartDate": "20261121",
    "ScheduledProcedureStepStartTime": "0830",
    "RequestedProcedureCodeSequence": "C1^Head^L",
    "RequestedProcedureDescription": "",
}


def test_a_record_is_an_order() -> None:
    order = order_of(RECORD)
    assert isinstance(order, PlaceOrder)
    assert order.patient.key == PatientKey("P1", "HOSP")
    assert order.patient.attributes["00100010"]["Value"] == [
        {"Alphabetic": "CHAN^TAI MAN", "Ideographic": "陳^大文"}
    ]
    assert order.patient.attributes["00100040"]["Value"] == ["F"]
    assert order.numbers == OrderNumbers("A1")
    assert order.attributes["00101030"]["Value"] == [65.5]
    assert "00321060" not in order.attributes
    (step,) = order.steps
    assert step.start_told
    assert step.attributes["00400001"]["Value"] == ["CT01", "CT02"]


def test_a_record_may_say_a_state() -> None:
    change = order_of({"AccessionNumber": "A1", "State": "cancelled"})
    assert change == ChangeState(None, OrderNumbers("A1"), StepState.CANCELLED)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientID", ""),
        ("AccessionNumber", ""),
        ("AccessionNumber", "A" * 17),
        ("StudyInstanceUID", "1.2.bad"),
        ("PatientBirthDate", "1970"),
        ("ScheduledProcedureStepStartTime", "soon"),
        ("Modality", "C\\T"),
        ("PatientWeight", "heavy"),
        ("PatientWeight", "nan"),
        ("State", "lost"),
        ("PatientShoeSize", "44"),
    ],
)
def test_what_is_wrong_is_named_without_its_value(keyword: str, value: str) -> None:
    with pytest.raises(BadRecord) as caught:
        order_of(RECORD | {keyword: value})
    assert caught.value.keyword == keyword
    assert not value or value not in str(caught.value).removeprefix(keyword)


def test_what_is_over_stays_over_unless_it_is_ordered_anew() -> None:
    for present, wanted in itertools.product(StepState, StepState):
        if present in (StepState.COMPLETED, StepState.DISCONTINUED):
            assert may_become(present, wanted) == (present is wanted)
        if present is StepState.IN_PROGRESS:
            assert may_become(present, wanted) == (
                wanted in (present, StepState.COMPLETED, StepState.DISCONTINUED)
            )


@given(
    st.sampled_from(StepState),
    st.lists(st.tuples(st.sampled_from(Performed), st.booleans()), max_size=4),
)
def test_performed_steps_decide(
    present: StepState, performed: list[tuple[Performed, bool]]
) -> None:
    state = state_after(present, performed)
    meant = {each for each, mistaken in performed if not mistaken}
    assert (state is StepState.IN_PROGRESS) >= (Performed.IN_PROGRESS in meant)
    if meant == {Performed.COMPLETED}:
        assert state is StepState.COMPLETED
    if not meant and present in OPEN:
        assert state in OPEN
    # Told again, it changes nothing more.
    assert state_after(state, performed) is state


def test_merged_attributes() -> None:
    present = {"00100010": {"vr": "PN", "Value": ["a"]}, "00100040": {"vr": "CS", "Value": ["F"]}}
    told = {"00100010": {"vr": "PN"}, "00080050": {"vr": "SH", "Value": ["A1"]}}
    assert list(merged(present, told)) == ["00080050", "00100040"]
