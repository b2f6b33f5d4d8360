"""Each status that our conformance statement claims is answered: by what it says, and by the code.

The claims are read from the statement itself, so one that nobody can provoke fails here.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy.engine import Engine

from gantry_archive.own_statement import own_statement
from gantry_domain.conformance.model import Role, StatusClaim
from gantry_runtime.settings import load_settings
from gantry_stores.objects import DirectoryStore
from gantry_testkit.door import EXPLICIT
from gantry_testkit.forwarding import AnsweringScp, ForwardingArchive
from gantry_testkit.provoking import (  # noqa: F401
    committing,
    finding,
    performing,
    reporting,
    retrieving,
    storing,
)
from gantry_testkit.provoking.site import POLICIES, PROVOCATIONS, Site, claims_site
from gantry_testkit.stored import CT_IMAGE, image, stage


def claims() -> tuple[StatusClaim, ...]:
    """Those of the most that an archive can answer, by configuration."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "gantry.yaml"
        file.write_text(POLICIES)
        settings = load_settings({"GANTRY_CONFIG": str(file), "GANTRY_DATA": folder})
        return own_statement(settings).statuses


CLAIMS = claims()
ANSWERED = [claim for claim in CLAIMS if claim.role is Role.SCP]
# Those of notifications are held against their teller in `test_availability`.
AS_SENDER = [claim for claim in CLAIMS if claim.role is Role.SCU]


def key(claim: StatusClaim) -> tuple[str, str]:
    return claim.service, claim.code


@pytest.fixture(scope="module")
def site(module_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with claims_site(module_engine, tmp_path_factory.mktemp("claims")) as site:
        yield site


@pytest.mark.parametrize("claim", ANSWERED, ids=lambda claim: "-".join(key(claim)))
def test_it_is_answered(site: Site, claim: StatusClaim) -> None:
    provoke = PROVOCATIONS.get(key(claim))
    assert provoke is not None, f"{claim.service} claims {claim.code}, and nothing provokes it"
    assert f"{provoke(site):04X}" == claim.code


def test_what_can_be_provoked_is_claimed() -> None:
    assert PROVOCATIONS.keys() == set(map(key, ANSWERED))


# By what is claimed of an answer: what is left of the instance behind it.
LEFT = {
    "the instance counts as sent": "accepted",
    "the instance counts as sent; the warning is kept with the delivery": "warned",
    "the instance is sent again later, with growing delays": "failed",
    "the instance is not sent again; the delivery shows the status": "refused",
    "the instance is not sent again; the delivery shows the status; where other instances arrive "
    "and this one is no image, it counts as delivered": "refused",
}


def test_what_peers_answer_means_what_is_claimed(
    module_engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A peer answers with the first and the last code of each claim, each in a delivery."""
    archive = ForwardingArchive(module_engine, DirectoryStore(tmp_path_factory.mktemp("objects")))
    codes = [(claim, int(code, 16)) for claim in AS_SENDER for code in set(claim.code.split("-"))]
    images = [image() for _ in codes]
    archive.index(*(stage(archive.store, ds) for ds in images))
    answers: dict[str, int] = {}
    peer = AnsweringScp(
        lambda event: answers.get(str(event.request.AffectedSOPInstanceUID), 0),
        {CT_IMAGE: [EXPLICIT]},
    )
    try:
        for (claim, code), ds in zip(codes, images, strict=True):
            uid = str(ds.SOPInstanceUID)
            answers[uid] = code
            pk = archive.push(uid)
            archive.send(peer.port)
            state, status, reason = archive.items(pk)[uid]
            assert (state, status) == (LEFT[claim.behaviour], code), claim
            assert (reason or "").startswith(f"{code:04X} ") is (code != 0)
            # Only what is claimed to be sent again is.
            answers.clear()
            archive.due_now()
            again = state == "failed"
            if again:
                archive.send(peer.port)
            assert archive.claim() is None
            assert peer.uids().count(uid) == 1 + again
    finally:
        peer.close()
