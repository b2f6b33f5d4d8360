"""N-CREATE and N-SET of performed procedure steps."""

from pydicom import Dataset
from pydicom.uid import generate_uid

from gantry_domain.information_models import MODALITY_PERFORMED_PROCEDURE_STEP as MPPS
from gantry_testkit.provoking.site import Site, provokes

_STEPS = "N-CREATE and N-SET of performed steps"


def _step(**values: str | None) -> Dataset:
    ds = Dataset()
    ds.ScheduledStepAttributesSequence = [Dataset()]
    ds.ScheduledStepAttributesSequence[0].StudyInstanceUID = generate_uid()
    ds.PerformedProcedureStepStatus = "IN PROGRESS"
    ds.PerformedProcedureStepID = "P1"
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def _state(state: str) -> Dataset:
    ds = Dataset()
    ds.PerformedProcedureStepStatus = state
    return ds


def _create(site: Site, ds: Dataset | None = None, *uids: str, calling: str = "CT01") -> int:
    """Steps are created under these UIDs, or under a new one: the last answer."""
    with site.asking(site.doors.worklist, MPPS, calling=calling) as assoc:
        for uid in uids or (generate_uid(),):
            status, _ = assoc.send_n_create(ds or _step(), MPPS, uid)
        return int(status.Status)


@provokes(_STEPS, "0000")
def _created(site: Site) -> int:
    return _create(site)


@provokes(_STEPS, "0124")
def _without_the_right(site: Site) -> int:
    return _create(site, calling="NOTHING")


@provokes(_STEPS, "0111")
def _created_twice(site: Site) -> int:
    uid = generate_uid()
    return _create(site, _step(), uid, uid)


@provokes(_STEPS, "0112")
def _unknown(site: Site) -> int:
    with site.asking(site.doors.worklist, MPPS) as assoc:
        status, _ = assoc.send_n_set(_state("COMPLETED"), MPPS, generate_uid())
        return int(status.Status)


@provokes(_STEPS, "0106")
def _completed_before_it_begins(site: Site) -> int:
    return _create(site, _step(PerformedProcedureStepStatus="COMPLETED"))


@provokes(_STEPS, "0120")
def _for_no_study(site: Site) -> int:
    ds = _step()
    del ds.ScheduledStepAttributesSequence
    return _create(site, ds)


@provokes(_STEPS, "0121")
def _in_no_state(site: Site) -> int:
    return _create(site, _step(PerformedProcedureStepStatus=None))


@provokes(_STEPS, "0110")
def _changed_when_it_is_over(site: Site) -> int:
    uid = generate_uid()
    with site.asking(site.doors.worklist, MPPS) as assoc:
        assoc.send_n_create(_step(), MPPS, uid)
        for state in ("COMPLETED", "COMPLETED"):
            status, _ = assoc.send_n_set(_state(state), MPPS, uid)
        return int(status.Status)


@provokes(_STEPS, "0213")
def _too_late(site: Site) -> int:
    return site.too_late("performed_step", lambda: _create(site))
