"""Orders over HTTP: taken one by one, told apart, and only from those who may."""

from collections.abc import Iterator

import httpx
import pytest
import sqlalchemy as sa

from gantry_query.access import Client, Right, TokenAccess
from gantry_query.order_routes import LARGEST_TABLE, MOST_RECORDS
from gantry_stores.index.database import transaction
from gantry_stores.index.order_tables import order_, order_step
from gantry_stores.objects import DirectoryStore

TABLE = """AccessionNumber,PatientID,PatientName,Modality,ScheduledProcedureStepStartDate
H1,P1,CHAN^TAI MAN=陳^大文,CT,20300105
H2,P2,SECRET^NAME,MR,tomorrow
"""


def post(web, content: str | bytes, kind: str = "text/csv", **headers: str) -> httpx.Response:
    body = content.encode() if isinstance(content, str) else content
    return web.client.post(
        f"{web.base}/orders", content=body, headers={"Content-Type": kind, **headers}
    )


def state(web, number: str, partition: str = "main") -> str | None:
    with transaction(web.engine) as connection:
        return connection.scalar(
            sa.select(order_step.c.state)
            .join(order_)
            .where(order_.c.accession_number == number, order_.c.partition == partition)
        )


def test_orders_are_taken_one_by_one(web) -> None:
    some = post(web, TABLE, "text/csv; charset=utf-8")
    assert some.status_code == 202
    refused = some.json()["refused"]
    assert (some.json()["taken"], [each["record"] for each in refused]) == (1, [2])
    assert refused[0]["error"].startswith("ScheduledProcedureStepStartDate")
    assert "SECRET" not in some.text
    assert (state(web, "H1"), state(web, "H2")) == ("scheduled", None)
    # As often as one likes.
    cancel = '[{"AccessionNumber": "H1", "State": "cancelled"}]'
    for _ in range(2):
        answer = post(web, cancel, "application/json")
        assert (answer.status_code, answer.json()) == (200, {"taken": 1, "refused": []})
    assert state(web, "H1") == "cancelled"
    none = post(web, '{"AccessionNumber": "NOBODYS", "State": "cancelled"}', "application/json")
    assert (none.status_code, none.json()["taken"]) == (409, 0)


def test_each_partition_has_its_own(web) -> None:
    base = web.base.replace("/dicomweb", "/p/north/dicomweb")
    record = {"AccessionNumber": "N1", "PatientID": "P1"}
    assert web.client.post(f"{base}/orders", json=record).status_code == 200
    assert (state(web, "N1", "north"), state(web, "N1")) == ("scheduled", None)
    elsewhere = web.base.replace("/dicomweb", "/p/nowhere/dicomweb")
    assert web.client.post(f"{elsewhere}/orders", json=record).status_code == 404


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        ("x", "text/plain", 415),
        ("[{", "application/json", 400),
        ("[1]", "application/json", 400),
        ("a,b\n1\n", "text/csv", 400),
        (b"\xff\xfe", "text/csv", 400),
        ("x" * (LARGEST_TABLE + 1), "text/csv", 413),
        ("AccessionNumber\n" + "A\n" * (MOST_RECORDS + 1), "text/csv", 413),
    ],
    ids=["type", "no JSON", "no objects", "columns", "no text", "too long", "too many"],
)
def test_what_is_no_table_of_orders(web, content: str | bytes, kind: str, status: int) -> None:
    answer = post(web, content, kind)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.fixture(scope="module")
def base(serve, module_engine, tmp_path_factory) -> Iterator[str]:
    """Of a door where clients show tokens."""
    clients = [
        (Client("ris", frozenset({Right.ORDER})), ["o" * 20]),
        (Client("sender", frozenset({Right.STORE, Right.READ})), ["s" * 20]),
    ]
    store = DirectoryStore(tmp_path_factory.mktemp("objects"))
    with serve(module_engine, store, access=TokenAccess(clients)) as base:
        yield base


@pytest.mark.parametrize(("token", "status"), [("o", 200), ("s", 403), ("x", 401)])
def test_who_may(base: str, token: str, status: int) -> None:
    headers = {"Authorization": f"Bearer {token * 20}"}
    record = {"AccessionNumber": "T1", "PatientID": "P1"}
    assert httpx.post(f"{base}/orders", json=record, headers=headers).status_code == status


def test_the_right_to_order_is_no_right_to_read_or_store(base: str) -> None:
    headers = {"Authorization": f"Bearer {'o' * 20}"}
    assert httpx.get(f"{base}/studies", headers=headers).status_code == 403
    assert httpx.post(f"{base}/studies", headers=headers).status_code == 403


def test_strangers_from_elsewhere_send_none(serve, module_engine, tmp_path) -> None:
    with serve(module_engine, DirectoryStore(tmp_path), orders=False) as base:
        answer = httpx.post(f"{base}/orders", json={"AccessionNumber": "T2", "PatientID": "P1"})
    assert answer.status_code == 403
