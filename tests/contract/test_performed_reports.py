"""Performed steps passed on: stored with what was told, sent in order until they are taken."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import evt
from sqlalchemy.engine import Engine

from gantry_domain.errors import ConfigurationError
from gantry_runtime.metrics import sample
from gantry_runtime.settings import load_settings
from gantry_stores.index.database import transaction
from gantry_stores.index.orders.reports import (
    claim_report,
    count_reports,
    report_taken,
    retry_reports,
)
from gantry_testkit.modality import CONTEXTS, MPPS, Modality, ended, unscheduled
from gantry_testkit.orders_door import OrdersDoor, orders_door
from gantry_testkit.peer_ae import PeerAE
from gantry_testkit.ports import free_port
from gantry_testkit.query_scu import associated
from gantry_testkit.stored import new_uid, rows
from gantry_testkit.waiting import until


class Ris:
    """pynetdicom as a system that is told of performed steps; it answers with `statuses` first."""

    def __init__(self, *statuses: int) -> None:
        self.port = free_port()
        self.told: list[tuple[str, str, str]] = []
        """Operation, UID and status of each step, as they came."""
        self.callers: set[str] = set()
        self._statuses = list(statuses)

    @contextmanager
    def listening(self) -> Iterator[None]:
        ae = PeerAE("RIS")
        ae.add_supported_context(MPPS)
        handlers = [(evt.EVT_N_CREATE, self._create), (evt.EVT_N_SET, self._set)]
        server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        try:
            yield
        finally:
            server.shutdown()

    def _create(self, event: evt.Event) -> tuple[int, Dataset | None]:
        uid = str(event.request.AffectedSOPInstanceUID)
        return self._note("create", uid, event, event.attribute_list)

    def _set(self, event: evt.Event) -> tuple[int, Dataset | None]:
        uid = str(event.request.RequestedSOPInstanceUID)
        return self._note("set", uid, event, event.modification_list)

    def _note(
        self, operation: str, uid: str, event: evt.Event, ds: Dataset
    ) -> tuple[int, Dataset | None]:
        self.callers.add(event.assoc.requestor.ae_title)
        self.told.append((operation, uid, str(ds.PerformedProcedureStepStatus)))
        return (self._statuses.pop(0) if self._statuses else 0), None


def configuration(ris: Ris) -> str:
    return f"""
partners: [{{ae_title: RIS, address: "127.0.0.1:{ris.port}", calling_ae: GANTRYOUT}}]
worklist: {{performed_to: [RIS]}}
forward: {{backoff: {{first: 50ms, longest: 100ms}}, connect_timeout: 1s}}
"""


@contextmanager
def serving(engine: Engine, folder: Path, ris: Ris) -> Iterator[OrdersDoor]:
    with orders_door(engine, folder, configuration(ris)) as door:
        yield door


def perform(door: OrdersDoor, calling: str = "CT01", uid: str | None = None) -> str:
    """A step from its beginning to its end; its UID."""
    uid = uid or generate_uid()
    with associated(door.dimse, calling=calling, contexts=CONTEXTS) as assoc:
        modality = Modality(assoc, [])
        assert modality.create(unscheduled(), uid).Status == 0
        assert modality.set(ended("COMPLETED", [new_uid()]), uid).Status == 0
    return uid


def waiting(engine: Engine) -> tuple[int, int]:
    with transaction(engine) as connection:
        counts = count_reports(connection).get("RIS")
    return (counts.waiting, counts.given_up) if counts else (0, 0)


def test_what_is_performed_is_told_to_others(engine: Engine, tmp_path: Path) -> None:
    ris = Ris()
    before = sample("gantry_worklist_reports_total", destination="RIS", outcome="taken")
    with ris.listening(), serving(engine, tmp_path / "one", ris) as door:
        uid = perform(door)
        until(lambda: len(ris.told) == 2, "it was told")
        until(lambda: waiting(engine) == (0, 0), "nothing waits")
        # What it tells itself does not come back to it.
        perform(door, calling="ris")
        assert waiting(engine) == (0, 0)
    assert ris.told == [("create", uid, "IN PROGRESS"), ("set", uid, "COMPLETED")]
    assert ris.callers == {"GANTRYOUT"}
    after = sample("gantry_worklist_reports_total", destination="RIS", outcome="taken")
    assert after == before + 2


def test_while_it_is_away_reports_wait_and_a_restart_loses_none(
    engine: Engine, tmp_path: Path
) -> None:
    ris = Ris()
    with serving(engine, tmp_path / "one", ris) as door:
        uids = [perform(door) for _ in range(2)]
        until(lambda: rows(engine, "SELECT 1 FROM performed_report WHERE attempts > 0"), "tried")
    assert waiting(engine) == (4, 0)
    with ris.listening(), serving(engine, tmp_path / "two", ris):
        until(lambda: waiting(engine) == (0, 0), "all were taken")
    for uid in uids:
        assert [each[0] for each in ris.told if each[1] == uid] == ["create", "set"]


# Refused for now; taken although the answer got lost, as by N-CREATE and as by N-SET.
ANSWERS = {
    "taken": ((), 2, (0, 0)),
    "for now": ((0x0213, 0, 0x0110, 0), 4, (0, 0)),
    "it has the step": ((0x0111, 0), 2, (0, 0)),
    "with a warning": ((0x0107, 0x0116), 2, (0, 0)),
    "refused": ((0x0124, 0x0112), 2, (0, 2)),
}


@pytest.mark.parametrize(("statuses", "sent", "left"), ANSWERS.values(), ids=ANSWERS)
def test_answers(
    engine: Engine,
    tmp_path: Path,
    statuses: tuple[int, ...],
    sent: int,
    left: tuple[int, int],
) -> None:
    ris = Ris(*statuses)
    with ris.listening(), serving(engine, tmp_path / "one", ris) as door:
        perform(door)
        until(lambda: len(ris.told) == sent and waiting(engine) == left, "all was answered")
        if left[1]:
            reasons = rows(engine, "SELECT reason FROM performed_report ORDER BY pk")
            assert reasons == [("status 0124",), ("status 0112",)]
            with transaction(engine) as connection:
                assert retry_reports(connection, "OTHER", now=datetime.now(UTC)) == 0
                assert retry_reports(connection, "RIS", now=datetime.now(UTC)) == 2
            until(lambda: waiting(engine) == (0, 0), "it took them in the end")


def test_two_processes_send_each_report_once_and_in_order(engine: Engine, tmp_path: Path) -> None:
    ris = Ris()
    with (
        serving(engine, tmp_path / "one", ris) as one,
        serving(engine, tmp_path / "two", ris) as two,
    ):
        uids = [generate_uid() for _ in range(8)]
        threads = [
            threading.Thread(target=perform, args=(door, "CT01", uid))
            for uid, door in zip(uids, [one, two] * 4, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with ris.listening():
            until(lambda: waiting(engine) == (0, 0), "all were taken")
    assert len(ris.told) == 16
    for uid in uids:
        assert [each[0] for each in ris.told if each[1] == uid] == ["create", "set"]


def test_what_a_dead_process_held_is_sent_by_the_next(engine: Engine, tmp_path: Path) -> None:
    ris = Ris()
    with serving(engine, tmp_path / "one", ris) as door:
        perform(door)
    rows(engine, "UPDATE performed_report SET due_at = now(), claimed_until = NULL RETURNING 1")
    now, lease = datetime.now(UTC) + timedelta(seconds=1), timedelta(seconds=30)
    with transaction(engine) as connection:
        held = claim_report(connection, "RIS", now=now, lease=lease)
        assert held is not None
        # The N-SET waits for the N-CREATE.
        assert claim_report(connection, "RIS", now=now, lease=lease) is None
        taken = claim_report(connection, "RIS", now=now + lease, lease=lease)
        assert taken is not None
        assert taken.pk == held.pk
        # Whose claim has run out decides nothing any more.
        report_taken(connection, held)
        assert count_reports(connection)["RIS"].waiting == 2
        report_taken(connection, taken)
        assert count_reports(connection)["RIS"].waiting == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("performed_to: [RIS]", "worklist.performed_to names RIS, which is no partner"),
        ("polls: [{ae_title: CT01}]", "worklist.polls names CT01, which is no partner with an"),
        ("performed_to: [OK, OK]", "worklist.performed_to names OK twice"),
        ("polls: [{ae_title: OK}, {ae_title: OK}]", "worklist.polls names OK twice"),
    ],
)
def test_others_are_known_and_named_once(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "gantry.yaml"
    partners = "partners: [{ae_title: CT01}, {ae_title: OK, address: 'ris.example:104'}]"
    file.write_text(f"{partners}\nworklist: {{{text}}}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=why):
        load_settings({"GANTRY_CONFIG": str(file), "GANTRY_DATA": str(tmp_path)})
