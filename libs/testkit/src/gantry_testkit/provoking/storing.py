"""C-ECHO, C-STORE, and requests that no service takes."""

import time

from pydicom import Dataset

from gantry_dimse import command_sets as cs
from gantry_dimse.command import C_FIND_RQ, NO_DATA_SET
from gantry_dimse.pdu import PDV_HEADER, encode_command
from gantry_dimse.proposals import ProposedContext
from gantry_dimse.requesting import Timeouts, request_association
from gantry_dimse.send import StorageAssociation
from gantry_dimse.server import DimseServer
from gantry_domain.information_models import STUDY_ROOT_MOVE
from gantry_testkit.provoking.site import EXPLICIT, Site, provokes
from gantry_testkit.stored import CT_IMAGE, encoded, image

_ECHO, _STORE, _OTHER = "C-ECHO", "C-STORE", "Any other request"
_N_GET_RQ = 0x0110  # PS3.7 Annex E.1


def _store(
    site: Site,
    ds: Dataset | None = None,
    *,
    calling: str = "CT01",
    SOPClassUID: str = CT_IMAGE,
    SOPInstanceUID: str | None = None,
) -> int:
    sent = ds or image()
    with StorageAssociation.open(
        host="127.0.0.1",
        port=site.doors.settings.ports.dimse,
        calling_ae=calling,
        called_ae="GANTRY",
        contexts=[ProposedContext(CT_IMAGE, (EXPLICIT,))],
    ) as assoc:
        context = assoc.accepts(CT_IMAGE, EXPLICIT)
        assert context is not None
        return assoc.store(
            SOPClassUID=SOPClassUID,
            SOPInstanceUID=SOPInstanceUID or str(sent.SOPInstanceUID),
            context=context,
            chunks=[encoded(sent)],
        ).status


@provokes(_ECHO, "0000")
def _echo(site: Site) -> int:
    with site.asking(site.doors.front, CT_IMAGE) as assoc:
        return int(assoc.send_c_echo().Status)


@provokes(_STORE, "0000")
def _stored(site: Site) -> int:
    return _store(site)


@provokes(_STORE, "0124")
def _without_the_right(site: Site) -> int:
    return _store(site, calling="NOTHING")


@provokes(_STORE, "0122")
def _of_another_class(site: Site) -> int:
    return _store(site, SOPClassUID="1.2.3.4.5")


@provokes(_STORE, "A700")
def _while_the_store_is_away(site: Site) -> int:
    with site.away():
        return _store(site)


@provokes(_STORE, "A900")
def _under_another_uid(site: Site) -> int:
    return _store(site, SOPInstanceUID="1.2.3.4.5")


@provokes(_STORE, "C000")
def _without_a_study(site: Site) -> int:
    ds = image()
    del ds.StudyInstanceUID
    return _store(site, ds)


@provokes(_STORE, "C0F0")
def _too_large(site: Site) -> int:
    return _store(site, image(PixelData=bytes(8192)))


@provokes(_STORE, "C0F1")
def _one_too_many_of_a_study(site: Site) -> int:
    """Of this caller a study may have one image."""
    first, second = image(), image()
    second.StudyInstanceUID = first.StudyInstanceUID
    assert _store(site, first, calling="FULL") == 0
    return _store(site, second, calling="FULL")


@provokes(_OTHER, "0122")
def _in_the_context_of_another(site: Site) -> int:
    return _asked(site.doors.query, STUDY_ROOT_MOVE, C_FIND_RQ)


@provokes(_OTHER, "0211")
def _of_no_service(site: Site) -> int:
    return _asked(site.doors.front, CT_IMAGE, _N_GET_RQ)


def _asked(door: DimseServer, SOPClassUID: str, field: int) -> int:
    """What a request with this Command Field is answered with, in the context of this class."""
    requested = request_association(
        host=door.address[0],
        port=door.address[1],
        calling_ae="CT01",
        called_ae="GANTRY",
        contexts=[ProposedContext(SOPClassUID, (EXPLICIT,))],
        timeouts=Timeouts(),
    )
    (context,) = requested.contexts.accepted
    command = cs.encode_command_set(
        {
            cs.AFFECTED_SOP_CLASS_UID: cs.ui(SOPClassUID),
            cs.COMMAND_FIELD: cs.us(field),
            cs.MESSAGE_ID: cs.us(1),
            cs.COMMAND_DATA_SET_TYPE: cs.us(NO_DATA_SET),
        }
    )
    requested.wire.send([encode_command(context.id, command, requested.peer_maximum)])
    answer = requested.wire.receive(time.monotonic() + 30, 30, "answer")
    requested.wire.close()
    return cs.number(cs.read_command_set(answer.body[PDV_HEADER.size :]), cs.STATUS)
