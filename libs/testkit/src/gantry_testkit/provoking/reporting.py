"""N-EVENT-REPORT of storage commitment: a destination reports on what it was asked for."""

import sqlalchemy as sa
from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import build_context, build_role

from gantry_domain.commitment import COMMITMENT_INSTANCE, STORAGE_COMMITMENT_PUSH
from gantry_stores.index.proofs import note_request, want_proof
from gantry_testkit.commitment import action_information
from gantry_testkit.forwarding import ForwardingArchive
from gantry_testkit.provoking.site import Site, provokes
from gantry_testkit.query_scu import associated
from gantry_testkit.stored import CT_IMAGE

_REPORTS = "N-EVENT-REPORT of storage commitment"


def _asked(site: Site) -> str:
    """The transaction of a request that PEER was asked under."""
    pk = ForwardingArchive(site.engine, site.doors.store).push(site.images[0])
    transaction = generate_uid()
    with site.engine.connect() as connection, connection.begin():
        for delivered in (
            "UPDATE delivery SET state = 'delivered' WHERE pk = :pk",
            "UPDATE delivery_item SET state = 'accepted' WHERE delivery_pk = :pk",
        ):
            connection.execute(sa.text(delivered), {"pk": pk})
        want_proof(connection, pk, kind="commitment")
        note_request(connection, pk, transaction)
    return transaction


def _report(site: Site, transaction: str, *, event_type: int = 1) -> int:
    report: Dataset = action_information(transaction, [(CT_IMAGE, site.images[0])])
    with associated(
        site.doors.front.address,
        calling="PEER",
        contexts=[build_context(STORAGE_COMMITMENT_PUSH)],
        ext_neg=[build_role(STORAGE_COMMITMENT_PUSH, scp_role=True)],
    ) as assoc:
        status, _ = assoc.send_n_event_report(
            report, event_type, STORAGE_COMMITMENT_PUSH, COMMITMENT_INSTANCE
        )
        return int(status.Status)


@provokes(_REPORTS, "0000")
def _of_what_was_asked(site: Site) -> int:
    return _report(site, _asked(site))


@provokes(_REPORTS, "0113")
def _of_another_kind(site: Site) -> int:
    return _report(site, _asked(site), event_type=3)


@provokes(_REPORTS, "0115")
def _of_what_nobody_asked(site: Site) -> int:
    return _report(site, generate_uid())


@provokes(_REPORTS, "0110")
def _to_a_broken_index(site: Site) -> int:
    transaction = _asked(site)
    with site.without("proof_request"):
        return _report(site, transaction)


@provokes(_REPORTS, "0213")
def _too_late(site: Site) -> int:
    transaction = _asked(site)
    return site.too_late("proof_request", lambda: _report(site, transaction))
