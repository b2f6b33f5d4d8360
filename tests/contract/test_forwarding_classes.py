"""Destinations that take images and nothing else: what is no image is left out, and told."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pynetdicom import evt
from sqlalchemy.engine import Engine

from gantry_archive.delivery import Planned, plan_routes
from gantry_archive.resending import Resent, Span, To, resend
from gantry_cli.deliveries import show_delivery
from gantry_domain.deliveries import DeliveryState
from gantry_domain.routes import Route
from gantry_runtime.settings import Settings, load_settings
from gantry_stores.index import delivery_lists as lists
from gantry_stores.index import proofs
from gantry_stores.index.database import transaction
from gantry_stores.objects import DirectoryStore, ObjectStore
from gantry_testkit.door import EXPLICIT
from gantry_testkit.forwarding import LEASE, AnsweringScp, ForwardingArchive
from gantry_testkit.peers import storescp
from gantry_testkit.stored import CT_IMAGE, image, new_uid, rows, stage
from gantry_testkit.stow_peer import Answer, StowPeer, failed, stored

REPORT = "1.2.840.10008.5.1.4.1.1.88.11"
PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
PRIVATE = "1.2.3.4"

# What dcmtk's storescp is to accept (`-xf`).
CT_ALONE = f"""
[[TransferSyntaxes]]
[Plain]
TransferSyntax1 = {EXPLICIT}
[[PresentationContexts]]
[CT]
PresentationContext1 = {CT_IMAGE}\\Plain
[[Profiles]]
[Images]
PresentationContexts = CT
"""


@pytest.fixture
def archive(engine: Engine, store: ObjectStore) -> ForwardingArchive:
    return ForwardingArchive(engine, store)


@pytest.fixture(scope="module")
def shared(module_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> ForwardingArchive:
    return ForwardingArchive(module_engine, DirectoryStore(tmp_path_factory.mktemp("objects")))


def a_study(archive: ForwardingArchive, *others: str, images: int = 2) -> tuple[str, list[str]]:
    """A study of CT images and an instance of each other class: its UID, and those of all."""
    study, uids = archive.study(images=images) if images else (new_uid(), [])
    more = [image(StudyInstanceUID=study, SOPClassUID=each) for each in others]
    archive.index(*(stage(archive.store, ds) for ds in more))
    rows(
        archive.engine,
        "UPDATE study SET completed_revision = revision, completed_at = now() RETURNING 1",
    )
    return study, [*uids, *(str(ds.SOPInstanceUID) for ds in more)]


def settings_of(postgres_url: str, folder: Path) -> Settings:
    file = folder / "gantry.yaml"
    file.write_text(f"database: {postgres_url.replace('postgresql+psycopg', 'postgresql')}\n")
    return load_settings({"GANTRY_CONFIG": str(file), "GANTRY_DATA": str(folder)})


def retry(archive: ForwardingArchive, selection: lists.Selection) -> list[int]:
    with transaction(archive.engine) as connection:
        return lists.retry(connection, selection)


def replay(archive: ForwardingArchive) -> Resent:
    """Of the last hour."""
    now = datetime.now(UTC)
    span = Span(since=now - timedelta(hours=1), until=now, partitions=["main"])
    *_, done = resend(archive.engine, span, To("PEER"), dry_run=False, at_once=100)
    return done


def route(archive: ForwardingArchive) -> Planned:
    """Ask the routes, whatever they were asked before."""
    rows(archive.engine, "UPDATE study SET routed_revision = NULL RETURNING 1")
    return plan_routes(archive.engine, [Route(name="all", send_to=("PEER",))])


def test_the_images_are_delivered_and_the_rest_is_told_and_not_planned_again(
    archive: ForwardingArchive,
    start_scp: Callable[..., AnsweringScp],
    postgres_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan_routes(archive.engine, ())
    study, uids = a_study(archive, REPORT, PRESENTATION_STATE, images=3)
    accepted = tmp_path / "accepted.cfg"
    accepted.write_text(CT_ALONE)
    with storescp(tmp_path / "peer", "-xf", str(accepted), "Images") as peer:
        pk = archive.push(study)
        assert archive.send(peer.port).settlement.state is DeliveryState.DELIVERED
        assert peer.instances() == dict.fromkeys(uids[:3], 1)
    line = archive.line(pk)
    assert (line.items, line.sent, line.refused) == (5, 3, 2)
    assert line.reason == "2 of 5 refused: their classes are not taken there"
    assert line.delivered_at is not None
    found = archive.items(pk)
    reason = f"the destination does not accept SOP class {REPORT}"
    assert found[uids[3]] == ("refused", 0x0122, reason)
    assert found[uids[4]][0] == "refused"
    assert archive.not_taken == 2
    show_delivery(settings_of(postgres_url, tmp_path), pk)
    shown = capsys.readouterr().out.splitlines()
    assert "delivered: 2 of 5 refused: their classes are not taken there" in shown
    assert "3 of 5 instances arrived, 2 refused" in shown
    assert f"  {uids[3]}  refused: {reason}" in shown

    # Neither a replay nor a route sends it there again, also with an image that comes late.
    assert replay(archive).instances == 0
    assert route(archive) == Planned(1, 0)
    late = image(StudyInstanceUID=study)
    archive.index(stage(archive.store, late))
    rows(archive.engine, "UPDATE study SET completed_revision = revision RETURNING 1")
    assert route(archive) == Planned(1, 1)
    images_alone = start_scp()
    archive.send(images_alone.port)
    assert images_alone.uids() == [str(late.SOPInstanceUID)]

    # A person does, once it is taken there: named, and not with all that has failed.
    assert retry(archive, lists.Selection(destination="PEER")) == []
    assert retry(archive, lists.Selection(states=[DeliveryState.DELIVERED])) == [pk]
    takes_all = start_scp(contexts={each: [EXPLICIT] for each in (REPORT, PRESENTATION_STATE)})
    assert archive.send(takes_all.port).settlement.state is DeliveryState.DELIVERED
    assert sorted(takes_all.uids()) == sorted(uids[3:])
    assert archive.line(pk).reason is None
    assert retry(archive, lists.Selection(pks=[pk])) == []


@pytest.mark.parametrize(
    ("refused", "accepted", "state"),
    [
        (REPORT, True, DeliveryState.DELIVERED),
        (REPORT, False, DeliveryState.DELIVERED),
        (MR_IMAGE, True, DeliveryState.DEAD),
        (MR_IMAGE, False, DeliveryState.DEAD),
        (PRIVATE, False, DeliveryState.DEAD),
    ],
)
def test_over_dimse_by_the_status_and_by_the_context(
    shared: ForwardingArchive,
    start_scp: Callable[..., AnsweringScp],
    refused: str,
    accepted: bool,
    state: DeliveryState,
) -> None:
    def answer(event: evt.Event) -> int:
        return 0x0122 if event.request.AffectedSOPClassUID == refused else 0x0000

    study, uids = a_study(shared, refused)
    classes = [CT_IMAGE, refused] if accepted else [CT_IMAGE]
    peer = start_scp(answer, contexts={each: [EXPLICIT] for each in classes})
    pk = shared.push(study)
    shared.send(peer.port)
    assert sorted(peer.uids()) == sorted(uids if accepted else uids[:2])
    line = shared.line(pk)
    told = ": its class is not taken there" if state is DeliveryState.DELIVERED else ""
    assert (line.state, line.reason, line.sent) == (state, f"1 of 3 refused{told}", 2)
    assert shared.items(pk)[uids[2]][:2] == ("refused", 0x0122)


@pytest.mark.parametrize(
    ("refused", "code", "state"),
    [
        (REPORT, 0x0122, DeliveryState.DELIVERED),
        (MR_IMAGE, 0x0122, DeliveryState.DEAD),
        (REPORT, 0xA900, DeliveryState.DEAD),  # for another reason than its class
    ],
)
def test_over_the_web(
    shared: ForwardingArchive,
    start_stow: Callable[[Answer], StowPeer],
    refused: str,
    code: int,
    state: DeliveryState,
) -> None:
    study, uids = a_study(shared, refused)
    peer = start_stow(lambda asked: failed(asked, code) if asked.uid == uids[2] else stored(asked))
    pk = shared.push(study)
    shared.send_web(peer.base)
    line = shared.line(pk)
    assert (line.state, line.sent, line.refused) == (state, 2, 1)
    assert shared.items(pk)[uids[2]][:2] == ("refused", code)


def test_where_nothing_arrives_it_is_dead(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    study, _ = a_study(archive, REPORT, PRESENTATION_STATE, images=0)
    peer = start_scp()
    pk = archive.push(study)
    archive.send(peer.port)
    line = archive.line(pk)
    assert (line.state, line.reason) == (DeliveryState.DEAD, "2 of 2 refused")
    assert replay(archive).instances == 0
    assert retry(archive, lists.Selection(destination="PEER")) == [pk]


def test_what_has_arrived_is_proved_alone_and_stays_so(
    shared: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    study, uids = a_study(shared, REPORT)
    peer = start_scp()
    pk = shared.push(study)
    shared.send(peer.port, prove="find")
    with transaction(shared.engine) as connection:
        assert proofs.claim_proof(connection, lease=LEASE) is not None
        asked = [each.SOPInstanceUID for each in proofs.unproved(connection, pk)]
        assert sorted(asked) == sorted(uids[:2])
        assert proofs.hear(connection, pk, kept=asked, not_kept={}, resends=1) == "proved"
    # The report is tried again, in vain: there is nothing new to be asked about.
    assert retry(shared, lists.Selection(pks=[pk])) == [pk]
    shared.send(peer.port, prove="find")
    line = shared.line(pk)
    assert (line.state, line.proof, line.sent) == (DeliveryState.DELIVERED, "proved", 2)
    with transaction(shared.engine) as connection:
        assert proofs.claim_proof(connection, lease=LEASE) is None
