"""C-MOVE and C-GET."""

from collections.abc import Callable

from pydicom import Dataset
from pynetdicom.association import Association

from gantry_domain.information_models import STUDY_ROOT_GET, STUDY_ROOT_MOVE
from gantry_testkit.provoking.site import Site, cancelled, provokes, statuses
from gantry_testkit.query_scu import identifier

_MOVE, _GET = "C-MOVE", "C-GET"
_TABLE = "series"


def _retrieve(
    site: Site, service: str, ds: Dataset | None = None, *, calling: str = "CT01", to: str = "PEER"
) -> list[int]:
    wanted = ds or _study(site)
    with site.asking(site.doors.query, _model(service), calling=calling) as assoc:
        for context in assoc.accepted_contexts:
            context._as_scp = True
        if service == _MOVE:
            return statuses(assoc.send_c_move(wanted, to, STUDY_ROOT_MOVE))
        return statuses(assoc.send_c_get(wanted, STUDY_ROOT_GET))


def _model(service: str) -> str:
    return STUDY_ROOT_MOVE if service == _MOVE else STUDY_ROOT_GET


def _study(site: Site) -> Dataset:
    return identifier("STUDY", StudyInstanceUID=site.study)


Retrieve = Callable[[Site, str], int]


def _by_both(code: str) -> Callable[[Retrieve], Retrieve]:
    def register(provoke: Retrieve) -> Retrieve:
        provokes(_MOVE, code)(lambda site: provoke(site, _MOVE))
        provokes(_GET, code)(lambda site: provoke(site, _GET))
        return provoke

    return register


@_by_both("0000")
def _the_end(site: Site, service: str) -> int:
    return _retrieve(site, service)[-1]


@_by_both("FF00")
def _underway(site: Site, service: str) -> int:
    return _retrieve(site, service)[0]


@_by_both("B000")
def _some_refused(site: Site, service: str) -> int:
    with site.refusing(site.images[0]):
        return _retrieve(site, service)[-1]


@_by_both("A702")
def _all_refused(site: Site, service: str) -> int:
    with site.refusing(*site.images):
        return _retrieve(site, service)[-1]


@_by_both("0124")
def _without_the_right(site: Site, service: str) -> int:
    return _retrieve(site, service, calling="NOTHING")[-1]


@_by_both("A900")
def _of_nothing(site: Site, service: str) -> int:
    return _retrieve(site, service, identifier("STUDY"))[-1]


@_by_both("A701")
def _counted_too_late(site: Site, service: str) -> int:
    return site.too_late(_TABLE, lambda: _retrieve(site, service)[-1])


@_by_both("C001")
def _of_a_broken_index(site: Site, service: str) -> int:
    with site.without(_TABLE):
        return _retrieve(site, service)[-1]


@_by_both("FE00")
def _cancelled(site: Site, service: str) -> int:
    def ask(assoc: Association, number: int) -> object:
        if service == _MOVE:
            return assoc.send_c_move(_study(site), "PEER", STUDY_ROOT_MOVE, msg_id=number)
        return assoc.send_c_get(_study(site), STUDY_ROOT_GET, msg_id=number)

    with site.asking(site.doors.query, _model(service)) as assoc:
        return cancelled(site, assoc, _TABLE, ask, _model(service))


@provokes(_MOVE, "A801")
def _to_nobody(site: Site) -> int:
    return _retrieve(site, _MOVE, to="STRANGER")[-1]
