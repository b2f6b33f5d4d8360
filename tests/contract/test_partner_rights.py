"""What each partner may ask of us: a service that is not its own is refused by 0124."""

from collections.abc import Callable

import pytest
from pynetdicom import build_context
from sqlalchemy.engine import Engine

from gantry_archive.staging import Stager
from gantry_dimse.partners import Caller, Partners
from gantry_domain.information_models import STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE
from gantry_domain.keys import OBJECTS
from gantry_ingress.reception import StoreService
from gantry_stores.objects import DirectoryStore
from gantry_testkit.door import Door, ct
from gantry_testkit.door import associated as sending
from gantry_testkit.query_scu import associated, identifier

NOT_AUTHORIZED = 0x0124
CONFIGURATION = """
partners:
  - {ae_title: FINDER, may: [find]}
  - {ae_title: MOVER, may: [move]}
  - {ae_title: GETTER, may: [get]}
  - {ae_title: ANYTHING}
  - {ae_title: NOTHING, may: []}
"""
SERVICES = {"find": STUDY_ROOT_FIND, "move": STUDY_ROOT_MOVE, "get": STUDY_ROOT_GET}


def test_queries_and_retrievals(module_engine: Engine, serve_find) -> None:
    allowed: dict[str, set[str]] = {}
    with serve_find(module_engine, CONFIGURATION) as server:
        for title in ("FINDER", "MOVER", "GETTER", "ANYTHING", "NOTHING", "STRANGER"):
            contexts = [build_context(uid) for uid in SERVICES.values()]
            keys = identifier("STUDY", StudyInstanceUID="1.2.3")
            with associated(server.address, calling=title, contexts=contexts) as assoc:
                assert assoc.send_c_echo().Status == 0
                answers = {
                    "find": list(assoc.send_c_find(keys, STUDY_ROOT_FIND)),
                    "move": list(assoc.send_c_move(keys, "NOBODY", STUDY_ROOT_MOVE)),
                    "get": list(assoc.send_c_get(keys, STUDY_ROOT_GET)),
                }
            finals = {service: pairs[-1][0] for service, pairs in answers.items()}
            allowed[title] = {
                service for service, final in finals.items() if final.Status != NOT_AUTHORIZED
            }
            for service in SERVICES.keys() - allowed[title]:
                assert len(answers[service]) == 1
                assert finals[service].ErrorComment.startswith("this AE title may not")
    assert allowed == {
        "FINDER": {"find"},
        "MOVER": {"move"},
        "GETTER": {"get"},
        "ANYTHING": {"find", "move", "get"},
        "NOTHING": set(),
        "STRANGER": {"find", "move", "get"},  # who is not refused as a stranger
    }


@pytest.mark.parametrize(("may", "status"), [(None, 0), ({"store"}, 0), ({"find"}, NOT_AUTHORIZED)])
def test_storing(
    open_door: Callable[..., Door], store: DirectoryStore, may: set[str] | None, status: int
) -> None:
    rights = None if may is None else frozenset(may)
    partners = Partners(
        own_titles=["GANTRY"],
        callers=[Caller("CT01", None, "main", may=rights)],
        accept_unknown=True,
    )
    stager = Stager(
        store=store, publish=lambda receipt: None, max_object_size=2**20, store_patience=1.0
    )
    door = open_door(handler=StoreService(stager, partners=partners))
    with sending(door) as assoc:
        answer = assoc.send_c_store(ct())
        assert answer.Status == status
        # The association goes on.
        assert assoc.send_c_store(ct()).Status == status
    stored = len(list(store.list(OBJECTS)))
    assert stored == (0 if status else 2)
    if status:
        assert answer.ErrorComment == "this AE title may not store"
