"""Who may call is decided on titles and addresses."""

from ipaddress import ip_network

import pytest

from gantry_dimse.observer import Peer
from gantry_dimse.partners import Caller, Partners
from gantry_domain.sight import Sight
from gantry_domain.statuses import (
    CALLED_AE_NOT_RECOGNIZED,
    CALLING_AE_NOT_RECOGNIZED,
    Rejection,
)


def partners(*, accept_unknown: bool = True) -> Partners:
    return Partners(
        own_titles=("GANTRY", "OLDGATEWAY"),
        callers=[
            Caller("CT01", (ip_network("10.1.2.0/24"), ip_network("fd00::/8")), "main"),
            Caller("Mr 02", None, "research", "GB18030", sees_held=True),
        ],
        accept_unknown=accept_unknown,
    )


@pytest.mark.parametrize(
    ("calling", "called", "host", "rejection"),
    [
        ("CT01", "GANTRY", "10.1.2.3", None),
        ("ct01", "oldgateway", "10.1.2.3", None),
        ("CT01", "GANTRY", "::ffff:10.1.2.3", None),
        ("CT01", "GANTRY", "fd00::1", None),
        ("CT01", "GANTRY", "fe80::1%eth0", CALLING_AE_NOT_RECOGNIZED),
        ("CT01", "GANTRY", "10.1.3.3", CALLING_AE_NOT_RECOGNIZED),
        ("CT01", "OTHER", "10.1.2.3", CALLED_AE_NOT_RECOGNIZED),
        ("CT01", "", "10.1.2.3", CALLED_AE_NOT_RECOGNIZED),
        ("MR 02", "GANTRY", "192.0.2.1", None),
        ("STRANGER", "GANTRY", "192.0.2.1", None),
        ("", "GANTRY", "192.0.2.1", CALLING_AE_NOT_RECOGNIZED),
    ],
)
def test_admission(calling: str, called: str, host: str, rejection: Rejection | None) -> None:
    assert partners().admit(Peer(calling, called, host)) is rejection


def test_strangers_can_be_refused() -> None:
    refusing = partners(accept_unknown=False)
    stranger = Peer("STRANGER", "GANTRY", "10.1.2.3")
    assert refusing.admit(stranger) is CALLING_AE_NOT_RECOGNIZED
    assert refusing.admit(Peer("MR 02", "GANTRY", "10.1.2.3")) is None


def test_labels_and_partitions() -> None:
    known = partners()
    assert [known.label(title) for title in ("ct01", "MR 02", "EVIL{}")] == [
        "CT01",
        "Mr 02",
        "other",
    ]
    assert [known.partition(title) for title in ("CT01", "mr 02", "X")] == [
        "main",
        "research",
        "main",
    ]
    assert [known.sight(title) for title in ("CT01", "mr 02", "X")] == [
        Sight("main"),
        Sight("research", held=True),
        Sight("main"),
    ]
    assert [known.charset(title) for title in ("CT01", "mr 02", "X")] == [None, "GB18030", None]
