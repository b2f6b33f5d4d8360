"""C-FIND, of the archive and of the worklist."""

from pydicom import Dataset
from pynetdicom.association import Association

from gantry_domain.information_models import MODALITY_WORKLIST_FIND, STUDY_ROOT_FIND
from gantry_testkit.provoking.site import ORDER, Site, cancelled, provokes, statuses
from gantry_testkit.query_scu import identifier

_FIND, _LIST = "C-FIND", "C-FIND of the worklist"
_STUDIES, _ORDERS = "study", "order_step"


def _find(site: Site, ds: Dataset, *, calling: str = "CT01") -> list[int]:
    with site.asking(site.doors.query, STUDY_ROOT_FIND, calling=calling) as assoc:
        return statuses(assoc.send_c_find(ds, STUDY_ROOT_FIND))


def _list(site: Site, ds: Dataset, *, calling: str = "CT01") -> list[int]:
    with site.asking(site.doors.worklist, MODALITY_WORKLIST_FIND, calling=calling) as assoc:
        return statuses(assoc.send_c_find(ds, MODALITY_WORKLIST_FIND))


def _study(site: Site, **keys: str) -> Dataset:
    return identifier("STUDY", StudyInstanceUID=site.study, **keys)


def _order(**keys: str) -> Dataset:
    ds = Dataset()
    ds.AccessionNumber = ORDER
    ds.ScheduledProcedureStepSequence = [Dataset()]
    ds.ScheduledProcedureStepSequence[0].Modality = None
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    return ds


@provokes(_FIND, "FF00")
def _a_match(site: Site) -> int:
    return _find(site, _study(site))[0]


@provokes(_LIST, "FF00")
def _a_step(site: Site) -> int:
    return _list(site, _order())[0]


@provokes(_FIND, "FF01")
def _a_match_by_a_key_that_is_not_matched(site: Site) -> int:
    return _find(site, _study(site, ImageComments="x"))[0]


@provokes(_LIST, "FF01")
def _a_step_by_a_key_that_is_not_matched(site: Site) -> int:
    return _list(site, _order(StudyID="7"))[0]


@provokes(_FIND, "0000")
def _the_end_of_matches(site: Site) -> int:
    return _find(site, _study(site))[-1]


@provokes(_LIST, "0000")
def _the_end_of_steps(site: Site) -> int:
    return _list(site, _order())[-1]


@provokes(_FIND, "0124")
def _without_the_right_to_find(site: Site) -> int:
    return _find(site, _study(site), calling="NOTHING")[-1]


@provokes(_LIST, "0124")
def _without_the_right_to_the_worklist(site: Site) -> int:
    return _list(site, _order(), calling="NOTHING")[-1]


@provokes(_FIND, "A900")
def _at_no_level(site: Site) -> int:
    return _find(site, identifier("FRAME", StudyInstanceUID=site.study))[-1]


@provokes(_LIST, "A900")
def _of_two_steps_at_once(site: Site) -> int:
    ds = _order()
    ds.ScheduledProcedureStepSequence.append(Dataset())
    ds.ScheduledProcedureStepSequence[1].Modality = "CT"
    return _list(site, ds)[-1]


@provokes(_FIND, "A700")
def _matches_too_late(site: Site) -> int:
    return site.too_late(_STUDIES, lambda: _find(site, _study(site))[-1])


@provokes(_LIST, "A700")
def _steps_too_late(site: Site) -> int:
    return site.too_late(_ORDERS, lambda: _list(site, _order())[-1])


@provokes(_FIND, "C001")
def _in_a_broken_index(site: Site) -> int:
    with site.without(_STUDIES):
        return _find(site, _study(site))[-1]


@provokes(_LIST, "C001")
def _of_a_broken_index(site: Site) -> int:
    with site.without(_ORDERS):
        return _list(site, _order())[-1]


@provokes(_FIND, "FE00")
def _matches_cancelled(site: Site) -> int:
    return _cancelled(site, _STUDIES, _study(site), STUDY_ROOT_FIND)


@provokes(_LIST, "FE00")
def _steps_cancelled(site: Site) -> int:
    return _cancelled(site, _ORDERS, _order(), MODALITY_WORKLIST_FIND)


def _cancelled(site: Site, table: str, ds: Dataset, model: str) -> int:
    doors = site.doors
    door = doors.query if model == STUDY_ROOT_FIND else doors.worklist

    def ask(assoc: Association, number: int) -> object:
        return assoc.send_c_find(ds, model, msg_id=number)

    with site.asking(door, model) as assoc:
        return cancelled(site, assoc, table, ask, model)
