"""N-ACTION of storage commitment."""

from pydicom import Dataset
from pydicom.uid import UID, generate_uid

from gantry_domain.commitment import (
    COMMITMENT_INSTANCE,
    REQUEST_COMMITMENT,
    STORAGE_COMMITMENT_PUSH,
)
from gantry_testkit.commitment import action_information
from gantry_testkit.provoking.site import Site, provokes
from gantry_testkit.stored import CT_IMAGE

_REQUESTS = "N-ACTION of storage commitment"


def _ask(
    site: Site,
    ds: Dataset | None = None,
    *,
    action: int = REQUEST_COMMITMENT,
    instance: str = COMMITMENT_INSTANCE,
    calling: str = "CT01",
) -> int:
    asked = ds or action_information(generate_uid(), [(CT_IMAGE, site.images[0])])
    with site.asking(site.doors.front, STORAGE_COMMITMENT_PUSH, calling=calling) as assoc:
        status, _ = assoc.send_n_action(asked, action, UID(STORAGE_COMMITMENT_PUSH), UID(instance))
        return int(status.Status)


@provokes(_REQUESTS, "0000")
def _asked(site: Site) -> int:
    return _ask(site)


@provokes(_REQUESTS, "0124")
def _without_the_right(site: Site) -> int:
    return _ask(site, calling="NOTHING")


@provokes(_REQUESTS, "0112")
def _of_another_instance(site: Site) -> int:
    return _ask(site, instance=generate_uid())


@provokes(_REQUESTS, "0123")
def _for_another_action(site: Site) -> int:
    return _ask(site, action=2)


@provokes(_REQUESTS, "0115")
def _about_nothing(site: Site) -> int:
    return _ask(site, action_information(generate_uid(), []))


@provokes(_REQUESTS, "0110")
def _of_a_broken_index(site: Site) -> int:
    with site.without("commitment"):
        return _ask(site)


@provokes(_REQUESTS, "0213")
def _too_late(site: Site) -> int:
    return site.too_late("commitment", lambda: _ask(site))
