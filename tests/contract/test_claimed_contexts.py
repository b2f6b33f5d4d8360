"""Each presentation context that our conformance statement claims as an SCU is put to use.

As an SCP: `test_conformance_check` for every port, and `test_ingress_syntaxes`, where an object of
each class is taken in each transfer syntax. The other services as an SCU: `test_send`, `test_pull`.
"""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest
from pynetdicom import build_context, build_role
from sqlalchemy.engine import Engine

from gantry_archive.own_entities import QUERY, SENDER, own_entities
from gantry_domain.conformance.model import Entity, Role
from gantry_domain.conformance.registry import Service, service_of
from gantry_domain.file_meta import FileMeta, encode_file_meta
from gantry_domain.information_models import STUDY_ROOT_GET
from gantry_runtime.settings import load_settings
from gantry_stores.objects import DirectoryStore
from gantry_testkit.door import Door
from gantry_testkit.forwarding import ForwardingArchive
from gantry_testkit.query_scu import associated
from gantry_testkit.stored import stage
from gantry_testkit.tiny_objects import STUDY, data_set, instance_uid

ENTITIES = {each.name: each for each in own_entities(load_settings({"GANTRY_DATA": "/nowhere"}))}
_MOST = 126  # of 128, beside C-GET and Verification

Pairs = list[tuple[str, str]]


def claimed(entity: Entity, *, all_pairs: bool = False) -> Pairs:
    """Class and transfer syntax of images that it sends: each of both at least once, or all."""
    stored = [
        each
        for each in entity.supports
        if each.role is Role.SCU and service_of(each.uid) is Service.STORAGE
    ]
    (syntaxes,) = {each.transfer_syntaxes for each in stored}
    assert syntaxes
    classes = [each.uid for each in stored]
    if all_pairs:
        return list(product(classes, syntaxes))
    return [(uid, syntaxes[n % len(syntaxes)]) for n, uid in enumerate(classes)]


def test_what_the_sender_proposes(
    open_door: Callable[..., Door], module_engine: Engine, tmp_path: Path
) -> None:
    pairs = claimed(ENTITIES[SENDER])
    archive = ForwardingArchive(module_engine, DirectoryStore(tmp_path / "objects"))
    archive.index(
        *(
            stage(
                archive.store,
                data_set(*pair),
                head=encode_file_meta(
                    FileMeta(pair[0], instance_uid(*pair), pair[1], "CT01", "GANTRY", "main")
                ),
            )
            for pair in pairs
        )
    )
    peer = open_door()
    pk = archive.push(STUDY)
    archive.send(peer.port)
    sent = {
        (request.SOPClassUID, request.transfer_syntax): content
        for request, content in peer.storage.stored
    }
    assert sent == {pair: data_set(*pair) for pair in pairs}
    assert len(archive.items(pk)) == len(pairs)


def taken_by_c_get(address: tuple[str, int], pairs: Pairs) -> Iterator[tuple[str, str]]:
    for begin in range(0, len(pairs), _MOST):
        some = pairs[begin : begin + _MOST]
        with associated(
            address,
            contexts=[
                build_context(STUDY_ROOT_GET),
                *(build_context(uid, [syntax]) for uid, syntax in some),
            ],
            ext_neg=[build_role(uid, scp_role=True) for uid in {uid for uid, _ in some}],
        ) as assoc:
            for context in assoc.accepted_contexts:
                if context.as_scp:
                    yield str(context.abstract_syntax), str(context.transfer_syntax[0])


def test_what_is_sent_by_c_get(module_engine: Engine, serve_find) -> None:
    pairs = claimed(ENTITIES[QUERY])
    with serve_find(module_engine) as server:
        assert sorted(taken_by_c_get(server.address, pairs)) == sorted(pairs)


@pytest.mark.long
def test_all_that_is_sent_by_c_get(module_engine: Engine, serve_find) -> None:
    pairs = claimed(ENTITIES[QUERY], all_pairs=True)
    with serve_find(module_engine) as server:
        assert sorted(taken_by_c_get(server.address, pairs)) == sorted(pairs)
