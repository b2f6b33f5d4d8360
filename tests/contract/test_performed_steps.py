"""Performed procedure steps over real associations: what modalities tell, and what it makes of
orders."""

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import evt
from sqlalchemy.engine import Engine

from gantry_runtime.metrics import sample
from gantry_stores.index.database import transaction
from gantry_stores.index.order_tables import performed_step
from gantry_testkit.hl7_samples import order_message
from gantry_testkit.modality import (
    CONTEXTS,
    MPPS,
    Modality,
    accessions,
    begun,
    ended,
    question,
    tell,
    unscheduled,
)
from gantry_testkit.orders_door import OrdersDoor, acknowledged, orders_door
from gantry_testkit.query_scu import associated
from gantry_testkit.stored import new_uid

CONFIGURATION = """
partners:
  - {ae_title: CAMERA, may: [store]}
"""


@pytest.fixture(scope="module")
def door(module_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrdersDoor]:
    folder = tmp_path_factory.mktemp("orders")
    with orders_door(module_engine, folder, CONFIGURATION) as door:
        yield door


@pytest.fixture
def modality(door: OrdersDoor) -> Iterator[Modality]:
    commands: list[Dataset] = []

    def keep(event: evt.Event) -> None:
        commands.append(event.message.command_set)

    with associated(door.dimse, contexts=CONTEXTS, handlers=[(evt.EVT_DIMSE_RECV, keep)]) as assoc:
        yield Modality(assoc, commands)


@pytest.fixture
def order(door: OrdersDoor, request: pytest.FixtureRequest) -> str:
    """The accession number of an order of this test alone."""
    number = f"M{abs(hash(request.node.name)) % 10**12}"
    tell(door, order_message(accession=number, patient=number))
    return number


def started(door: OrdersDoor, number: str) -> list[str]:
    step = {"ScheduledProcedureStepStatus": "STARTED"}
    return accessions(door, question(step, AccessionNumber=number))


def to_do(door: OrdersDoor, number: str) -> list[str]:
    return accessions(door, question({}, AccessionNumber=number))


def test_performed_and_completed(
    door: OrdersDoor, modality: Modality, order: str, module_engine: Engine
) -> None:
    uid = generate_uid()
    made = [new_uid() for _ in range(1200)]
    assert modality.create(begun(door, order), uid).Status == 0
    assert (to_do(door, order), started(door, order)) == ([], [order])
    # What is performed cannot be cancelled by the department.
    cancelled = order_message(accession=order, patient=order, control="CA", control_id=uid)
    assert acknowledged(door.hl7, cancelled) == ["AE 206"]
    assert modality.set(ended("IN PROGRESS", made[:2]), uid).Status == 0
    assert modality.set(ended("COMPLETED", made), uid).Status == 0
    assert (to_do(door, order), started(door, order)) == ([], [])
    with transaction(module_engine) as connection:
        row = connection.execute(
            sa.select(performed_step).where(performed_step.c.sop_instance_uid == uid)
        ).one()
    assert (row.state, row.instances, row.calling_ae) == ("COMPLETED", 1200, "WS1")


@pytest.mark.parametrize(
    ("reason", "still_to_do"),
    [(None, False), (("110513", "DCM"), False), (("110514", "DCM"), True)],
)
def test_discontinued(
    door: OrdersDoor,
    modality: Modality,
    order: str,
    reason: tuple[str, str] | None,
    still_to_do: bool,
) -> None:
    uid = generate_uid()
    assert modality.create(begun(door, order), uid).Status == 0
    assert modality.set(ended("DISCONTINUED", reason=reason), uid).Status == 0
    assert to_do(door, order) == ([order] if still_to_do else [])


@pytest.mark.parametrize("last", ["COMPLETED", "DISCONTINUED"])
def test_what_is_over_may_not_be_updated(modality: Modality, last: str) -> None:
    uid = generate_uid()
    assert modality.create(unscheduled(), uid).Status == 0
    assert modality.set(ended(last), uid).Status == 0
    for then in ("IN PROGRESS", "COMPLETED", "DISCONTINUED"):
        status = modality.set(ended(then), uid)
        assert (status.Status, status.ErrorID) == (0x0110, 0xA710)
        assert "may not be updated" in status.ErrorComment


def without(keyword: str) -> Dataset:
    ds = unscheduled()
    delattr(ds, keyword)
    return ds


def with_state(state: str) -> Dataset:
    ds = unscheduled()
    ds.PerformedProcedureStepStatus = state
    return ds


def without_study() -> Dataset:
    ds = unscheduled()
    del ds.ScheduledStepAttributesSequence[0].StudyInstanceUID
    return ds


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (lambda: with_state("COMPLETED"), 0x0106),
        (lambda: with_state("PAUSED"), 0x0106),
        (lambda: with_state(""), 0x0121),
        (lambda: without("PerformedProcedureStepStatus"), 0x0120),
        (lambda: without("ScheduledStepAttributesSequence"), 0x0120),
        (without_study, 0x0121),
    ],
)
def test_what_cannot_be_created(
    modality: Modality, make: Callable[[], Dataset], status: int
) -> None:
    answer = modality.create(make(), generate_uid())
    assert answer.Status == status
    assert answer.ErrorComment


def test_created_twice_unknown_and_unscheduled(modality: Modality, door: OrdersDoor) -> None:
    before = sample("gantry_worklist_performed_unscheduled_total")
    uid = generate_uid()
    assert modality.create(unscheduled(), uid).Status == 0
    assert sample("gantry_worklist_performed_unscheduled_total") == before + 1
    assert modality.create(unscheduled(), uid).Status == 0x0111
    assert modality.set(ended("COMPLETED"), generate_uid()).Status == 0x0112
    assert modality.set(ended("PAUSED"), uid).Status == 0x0106
    with associated(door.dimse, calling="CAMERA", contexts=CONTEXTS) as assoc:
        status, _ = assoc.send_n_create(unscheduled(), MPPS, generate_uid())
    assert status.Status == 0x0124


def test_a_uid_is_given_to_a_step_without(modality: Modality) -> None:
    created = modality.create(unscheduled(), None)
    assert created.Status == 0
    uid = modality.commands[-1].AffectedSOPInstanceUID
    assert uid.startswith("2.25.")
    assert modality.set(ended("COMPLETED"), uid).Status == 0
