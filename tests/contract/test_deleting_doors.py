"""Deleting at the doors: who may, and what is hidden from whom at once."""

import httpx
from pydicom import Dataset

from gantry_archive.indexing import index_batch
from gantry_query.access import Client, Right, TokenAccess
from gantry_stores.index.database import transaction
from gantry_stores.index.deletions import list_deletions
from gantry_testkit.query_scu import answers, associated, identifier
from gantry_testkit.shelf import RULES, Shelf, a_study
from gantry_testkit.stored import (
    new_uid,
    rows,
    stage,
)


def path_of(ds: Dataset, level: str) -> str:
    path = f"/studies/{ds.StudyInstanceUID}"
    if level != "study":
        path += f"/series/{ds.SeriesInstanceUID}"
    return path + (f"/instances/{ds.SOPInstanceUID}" if level == "instance" else "")


def test_each_level_disappears_from_every_door_at_once(web, serve_find):
    shelf = Shelf(web.engine, web.store)
    datasets, other = a_study(), a_study(series=1)
    shelf.put(*datasets, *other)
    study = datasets[0].StudyInstanceUID

    def told() -> tuple[list[int], list[int], list[str]]:
        found = web.get(f"/studies?StudyInstanceUID={study}").json()
        counts = [v["Value"][0] for r in found for v in (r["00201206"], r["00201208"])]
        series = web.get(f"/studies/{study}/series").json()
        modalities = found[0]["00080061"]["Value"] if found else []
        return counts, [each["00201209"]["Value"][0] for each in series], modalities

    def by_dimse(server) -> int:
        with associated(server.address) as assoc:
            asked = identifier("IMAGE", StudyInstanceUID=study, SeriesInstanceUID="")
            asked.SeriesInstanceUID = [ds.SeriesInstanceUID for ds in datasets[::2]]
            return len(answers(assoc, asked)[1])

    def gone(ds: Dataset, level: str) -> None:
        answer = web.client.delete(f"{web.base}{path_of(ds, level)}")
        assert (answer.status_code, answer.content) == (204, b"")
        for tail in ("", "/metadata", "/rendered"):
            assert web.get(path_of(ds, level) + tail).status_code == 404
        assert web.client.delete(f"{web.base}{path_of(ds, level)}").status_code == 404

    with serve_find(web.engine, store=web.store) as server:
        assert (told(), by_dimse(server)) == (([2, 4], [2, 2], ["CT", "MR"]), 4)
        gone(datasets[0], "instance")
        assert (told(), by_dimse(server)) == (([2, 3], [1, 2], ["CT", "MR"]), 3)
        gone(datasets[2], "series")
        assert (told(), by_dimse(server)) == (([1, 1], [1], ["CT"]), 1)
        assert len(web.get(f"/studies/{study}/metadata").json()) == 1
        gone(datasets[1], "study")
        assert (told(), by_dimse(server)) == (([], [], []), 0)
    assert len(web.get(f"/studies/{other[0].StudyInstanceUID}/metadata").json()) == 2
    with transaction(web.engine) as connection:
        lines = list_deletions(connection, limit=9)
    assert [(line.deletion.level, line.instances) for line in lines] == [
        ("study", 1),
        ("series", 2),
        ("instance", 1),
    ]
    assert {line.deletion.deleted_by for line in lines} == {"anyone on loopback"}


def test_what_is_not_there_is_not_deleted(web):
    shelf = Shelf(web.engine, web.store)
    (one,), (hidden,), (north,) = (a_study(series=1, images=1) for _ in range(3))
    shelf.put(one)
    shelf.put(north, partition="north")
    index_batch([stage(web.store, hidden).receipt], store=web.store, engine=web.engine, rules=RULES)
    for path in (
        f"/studies/{new_uid()}",
        f"/studies/{one.StudyInstanceUID}/series/{new_uid()}",
        f"/studies/{new_uid()}/series/{one.SeriesInstanceUID}",
        f"{path_of(one, 'series')}/instances/{new_uid()}",
        path_of(hidden, "study"),
        path_of(north, "study"),
    ):
        assert web.client.delete(f"{web.base}{path}").status_code == 404
    assert web.client.delete(f"{web.base}/studies").status_code == 405
    assert {one.SOPInstanceUID, north.SOPInstanceUID} <= shelf.visible()
    partition = web.base.replace("/dicomweb", "/p/north/dicomweb")
    assert web.client.delete(f"{partition}{path_of(north, 'study')}").status_code == 204
    assert one.SOPInstanceUID in shelf.visible()


def test_what_is_held_out_of_sight_is_deleted_by_those_who_see_it(engine, store):
    shelf = Shelf(engine, store)
    (ds,) = a_study(series=1, images=1)
    shelf.put(ds)
    rows(shelf.engine, "UPDATE study SET visible = false, verdict = 'held' RETURNING 1")
    assert shelf.delete(ds) is None
    assert shelf.delete(ds, held=True) == 1


def test_it_takes_the_setting_and_the_right(serve, web):
    access = TokenAccess(
        [
            (Client("writer", frozenset({Right.READ, Right.STORE})), ["w" * 20]),
            (Client("remover", frozenset({Right.DELETE})), ["d" * 20]),
        ]
    )
    shelf = Shelf(web.engine, web.store)
    (ds,) = a_study(series=1, images=1)
    shelf.put(ds)

    def attempt(base: str, token: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.delete(f"{base}{path_of(ds, 'study')}", headers=headers)

    with serve(web.engine, web.store, access=access, deletes=False) as base:
        assert attempt(base, "d" * 20).status_code == 405
    with serve(web.engine, web.store, access=access) as base:
        refused = attempt(base, "w" * 20)
        assert refused.status_code == 403
        assert 'scope="delete"' in refused.headers["www-authenticate"]
        assert ds.SOPInstanceUID in shelf.visible()
        assert attempt(base, "d" * 20).status_code == 204
    with transaction(web.engine) as connection:
        assert list_deletions(connection, limit=1)[0].deletion.deleted_by == "remover"


def test_pages_of_strangers_may_not_ask_to_delete(web):
    for origin, methods in (
        ("https://viewer.example", "GET, POST, DELETE, OPTIONS"),
        ("http://localhost:3000", "GET, POST, DELETE, OPTIONS"),
        ("https://elsewhere.example", None),
    ):
        answer = web.client.options(f"{web.base}/studies/1.2", headers={"Origin": origin})
        assert answer.headers.get("access-control-allow-methods") == methods
