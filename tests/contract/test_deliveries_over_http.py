"""Deliveries over HTTP: pushed at three levels, followed to their end, steered by who may."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx
import pytest

from gantry_query.access import Client, Right, TokenAccess
from gantry_testkit.forwarding import AnsweringScp, ForwardingArchive
from gantry_testkit.stored import image, rows, stage


@pytest.fixture
def archive(web) -> ForwardingArchive:
    return ForwardingArchive(web.engine, web.store)


def push(web, uid: object, to: object = "PEER") -> httpx.Response:
    return web.client.post(f"{web.base}/deliveries", json={"uid": uid, "to": to})


def told(web, path: str = "") -> httpx.Response:
    return web.client.get(f"{web.base}/deliveries{path}")


def test_a_study_a_series_and_an_image_are_pushed_and_followed(
    web, archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    study, uids = archive.study(images=2)
    other = image(StudyInstanceUID=study)
    archive.index(stage(archive.store, other))
    peer = start_scp()
    wanted = [(study, "study", 3), (str(other.SeriesInstanceUID), "series", 1)]
    for uid, level, number in [*wanted, (uids[0], "instance", 1)]:
        answer = push(web, uid)
        assert answer.status_code == 202, answer.text
        here = answer.headers["location"].rpartition("/")[2]
        line = told(web, f"/{here}").json()
        assert (line["uid"], line["level"], line["state"]) == (uid, level, "waiting")
        assert (line["instances"], line["arrived"]) == (number, 0)
        archive.send(peer.port)
        line = told(web, f"/{here}").json()
        assert (line["state"], line["arrived"], line["refused"]) == ("delivered", number, 0)
        assert line["delivered_at"]
    listed = told(web, "?state=delivered&to=PEER&limit=2").json()
    assert [each["uid"] for each in listed] == [uids[0], wanted[1][0]]
    assert [each["uid"] for each in told(web, f"?before={listed[1]['number']}").json()] == [study]


def test_what_is_on_its_way_is_cancelled_and_tried_again(web, archive: ForwardingArchive) -> None:
    number = push(web, archive.study(images=1)[0]).json()["number"]
    path = f"{web.base}/deliveries/{number}"
    assert web.client.delete(path).status_code == 204
    assert told(web, f"/{number}").json()["state"] == "cancelled"
    assert web.client.delete(path).status_code == 409
    assert web.client.post(f"{path}/retry").status_code == 204
    assert told(web, f"/{number}").json()["state"] == "waiting"
    assert web.client.post(f"{path}/retry").status_code == 409
    # Of another partition nobody hears.
    north = web.base.replace("/dicomweb", "/p/north/dicomweb")
    assert web.client.get(f"{north}/deliveries/{number}").status_code == 404
    assert web.client.get(f"{north}/deliveries").json() == []
    assert web.client.delete(path).status_code == 204


def test_what_is_left_out_for_its_class_is_told_and_tried_again(
    web, archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    study, _ = archive.study(images=2)
    report = image(StudyInstanceUID=study, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    archive.index(stage(archive.store, report))
    number = push(web, study).json()["number"]
    archive.send(start_scp().port)
    line = told(web, f"/{number}").json()
    assert (line["state"], line["instances"], line["arrived"]) == ("delivered", 3, 2)
    assert line["refused"] == 1
    assert line["reason"] == "1 of 3 refused: its class is not taken there"
    assert web.client.post(f"{web.base}/deliveries/{number}/retry").status_code == 204
    line = told(web, f"/{number}").json()
    assert (line["state"], line["refused"], line["delivered_at"]) == ("waiting", 0, None)
    assert web.client.delete(f"{web.base}/deliveries/{number}").status_code == 204


def test_a_time_range_is_counted_and_then_sent(
    web, archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    began = datetime.now(UTC).isoformat()
    archive.study(images=2)
    rows(archive.engine, "UPDATE study SET completed_revision = revision RETURNING 1")
    path = f"{web.base}/deliveries/replay"
    asked = {"since": began, "to": "PEER"}
    answer = web.client.post(path, json={**asked, "dry_run": True})
    told_of = {"received": 2, "studies": 1, "left_out": 0, "instances": 2, "after": None}
    assert (answer.status_code, answer.json()) == (200, told_of | {"deliveries": []})
    answer = web.client.post(path, json=asked)
    assert answer.status_code == 202
    (number,) = answer.json()["deliveries"]
    peer = start_scp()
    archive.send(peer.port)
    assert told(web, f"/{number}").json()["arrived"] == 2
    assert web.client.post(path, json=asked).json()["instances"] == 0
    for body, status in (
        ({"since": began}, 400),
        ({"since": began, "to": "PEER", "route": "r"}, 400),
        ({"since": "yesterday", "to": "PEER"}, 400),
        ({"since": "0001-01-01T00:00:00+09:00", "to": "PEER"}, 400),
        ({"since": began, "until": began, "to": "PEER"}, 400),
        ({"since": began, "to": "PEER", "after": "here"}, 400),
        ({"since": began, "to": "NOBODY"}, 409),
        ({"since": began, "route": "none"}, 409),
    ):
        assert web.client.post(path, json=body).status_code == status, body


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"uid": "1.2.3.4", "to": "PEER"}, 409),
        ({"uid": "1.2.3.4", "to": "NOBODY"}, 409),
        ({"uid": "x", "to": "PEER"}, 400),
        ({"to": "PEER"}, 400),
        ([], 400),
        ({"uid": "1" * 5000, "to": "PEER"}, 413),
    ],
)
def test_what_cannot_be_pushed_is_refused(web, body: object, status: int) -> None:
    assert web.client.post(f"{web.base}/deliveries", json=body).status_code == status
    assert web.client.post(f"{web.base}/deliveries", content=b"{").status_code == 400


@pytest.mark.parametrize("path", ["?state=lost", "?limit=many", "?before=-1", "/none"])
def test_questions_that_make_no_sense(web, path: str) -> None:
    assert told(web, path).status_code == 400


def test_destinations_are_paused_and_resumed(web) -> None:
    def state() -> str:
        (found,) = web.client.get(f"{web.base}/destinations").json()
        assert found["destination"] == "PEER"
        return str(found["state"])

    path = f"{web.base}/destinations/PEER"
    assert state() == "sending"
    for body, after in [
        ({"paused": True}, "paused"),
        ({"paused": True, "drain": True}, "drained"),
        ({"paused": False}, "sending"),
    ]:
        assert web.client.put(path, json=body).status_code == 204
        assert state() == after
    assert web.client.put(path, json={"paused": 1}).status_code == 400
    assert web.client.put(f"{path}S", json={"paused": True}).status_code == 404
    assert rows(web.engine, "SELECT count(*) FROM lane WHERE paused_at IS NOT NULL") == [(0,)]


READER, SENDER, NORTH = "reader" * 4, "sender" * 4, "northern" * 4


@pytest.fixture(scope="module")
def guarded(web, serve) -> Iterator[str]:
    forward = frozenset({Right.READ, Right.FORWARD})
    everywhere = frozenset({Right.READ, Right.STORE, Right.DELETE, Right.ORDER})
    clients = [
        (Client("reader", everywhere), [READER]),
        (Client("sender", forward), [SENDER]),
        (Client("north", forward, frozenset({"north"})), [NORTH]),
    ]
    with serve(web.engine, web.store, access=TokenAccess(clients)) as base:
        yield base


@pytest.mark.parametrize(
    ("asked", "token", "status"),
    [
        ("GET /deliveries", READER, 200),
        ("POST /deliveries", READER, 403),
        ("DELETE /deliveries/1", READER, 403),
        ("POST /deliveries", SENDER, 400),
        ("DELETE /deliveries/99999999", SENDER, 404),
        ("PUT /destinations/PEER", READER, 403),
        ("PUT /destinations/PEER", SENDER, 400),
        ("POST /deliveries", NORTH, 403),
        ("PUT /destinations/PEER", NORTH, 403),
        ("DELETE /studies/1.2.3", SENDER, 403),
        ("GET /subscribers", READER, 200),
        ("PUT /subscribers/webhook:ris", READER, 403),
        ("PUT /subscribers/webhook:ris", SENDER, 400),
        ("POST /subscribers/webhook:ris/replay", NORTH, 403),
    ],
)
def test_it_takes_the_right_to_forward(
    web, guarded: str, asked: str, token: str, status: int
) -> None:
    method, path = asked.split()
    headers = {"Authorization": f"Bearer {token}"}
    answer = web.client.request(method, f"{guarded}{path}", headers=headers)
    assert answer.status_code == status


def test_a_partition_of_ones_own_is_no_right_to_pause_for_all(web, guarded: str) -> None:
    north = guarded.replace("/dicomweb", "/p/north/dicomweb")
    headers = {"Authorization": f"Bearer {NORTH}"}
    paused = {"paused": True}
    answer = web.client.put(f"{north}/destinations/PEER", json=paused, headers=headers)
    assert answer.status_code == 403
    assert web.client.get(f"{north}/deliveries", headers=headers).status_code == 200
