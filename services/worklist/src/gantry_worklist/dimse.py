"""The DIMSE port of the worklist service: worklist, MPPS and C-ECHO."""

import socket
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.engine import Engine

from gantry_archive.association_watch import AssociationWatch
from gantry_archive.dimse_door import partners_of, server_limits, user_identities
from gantry_archive.served_contexts import worklist_contexts
from gantry_dimse.command import C_FIND_RQ, N_CREATE_RQ, N_SET_RQ
from gantry_dimse.handover import Handover
from gantry_dimse.server import DimseServer
from gantry_dimse.slots import Slots
from gantry_domain.information_models import (
    MODALITY_PERFORMED_PROCEDURE_STEP,
    MODALITY_WORKLIST_FIND,
)
from gantry_runtime.settings import Settings
from gantry_worklist import metrics
from gantry_worklist.find import WorklistService
from gantry_worklist.performing import PerformingService


def make_server(
    settings: Settings,
    listener: socket.socket,
    *,
    engine: Engine,
    threads: ThreadPoolExecutor,
    slots: Slots,
    handover: Handover | None = None,
) -> DimseServer:
    """The server of one process. With `handover` callers may come through the front door."""
    limits = settings.worklist
    partners = partners_of(settings, limits, accept_unknown=settings.strangers_may_use_worklist)
    worklist = WorklistService(
        engine=engine,
        threads=threads,
        partners=partners,
        unassigned=limits.unassigned == "show",
        filled_for=[
            partner.ae_title.casefold()
            for partner in settings.partners
            if partner.empty_sequences == "item"
        ],
        max_matches=limits.max_matches,
    )
    performing = PerformingService(
        engine=engine,
        threads=threads,
        partners=partners,
        zone=settings.zone,
        passed_on_to=limits.performed_to,
    )
    return DimseServer(
        listener=listener,
        ae_title=settings.ae_titles[0],
        limits=server_limits(limits),
        supported=worklist_contexts(),
        operations={
            (C_FIND_RQ, MODALITY_WORKLIST_FIND): worklist.find,
            (N_CREATE_RQ, MODALITY_PERFORMED_PROCEDURE_STEP): performing.create,
            (N_SET_RQ, MODALITY_PERFORMED_PROCEDURE_STEP): performing.set,
        },
        observer=AssociationWatch(partners, metrics.ASSOCIATIONS),
        slots=slots,
        admit=partners.admit,
        terms=partners.terms,
        identities=user_identities(settings),
        shares_listener=limits.processes > 1,
        handover=handover,
    )
