"""The Accept header: what real clients send, and what they get."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.transfer_syntaxes import TRANSFER_SYNTAXES
from gantry_query.negotiation import (
    NOT_FOR_THE_WEB,
    Accepted,
    Form,
    NotAcceptable,
    choose_instances,
    choose_json,
    form_of,
    parse_accept,
)

EXPLICIT, IMPLICIT, BIG, DEFLATED = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
JPEG_LOSSLESS, JPEG_BASELINE, J2K = (
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.90",
)
# What browsers make of OHIF's two headers.
JOINED = (
    'application/dicom+json, multipart/related; type="application/octet-stream"; transfer-syntax=*'
)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "application/dicom+json"),
        ("", "application/dicom+json"),
        ("*/*", "application/dicom+json"),
        ("application/*", "application/dicom+json"),
        ("application/dicom+json", "application/dicom+json"),
        ("application/json", "application/json"),
        ("APPLICATION/JSON", "application/json"),
        ("application/json, application/dicom+json", "application/json"),
        ("application/json;q=0.5, application/dicom+json", "application/dicom+json"),
        ("application/dicom+json;q=0, application/json", "application/json"),
        ("application/dicom+json; charset=utf-8", "application/dicom+json"),
        ('multipart/related; type="application/dicom+xml", */*;q=0.1', "application/dicom+json"),
        (JOINED, "application/dicom+json"),
        ("nonsense, application/json", "application/json"),
        (", ,", None),
        ("text/html", None),
        ("application/json;q=0", None),
        ('multipart/related; type="application/dicom+json"', None),
    ],
)
def test_json(accept: str | None, media_type: str | None) -> None:
    if media_type is None:
        with pytest.raises(NotAcceptable, match=r"application/dicom\+json"):
            choose_json(accept)
    else:
        assert choose_json(accept) == media_type


MANY = Accepted(True, frozenset({EXPLICIT}), default=True)


@pytest.mark.parametrize(
    ("accept", "accepted"),
    [
        (None, MANY),
        ('multipart/related; type="application/dicom"', MANY),
        ("multipart/related; type=application/dicom", MANY),
        ('multipart/related;TYPE="application/dicom"', MANY),
        ("multipart/related", MANY),
        ("*/*", Accepted(True, frozenset({"*"}))),
        ("multipart/*", Accepted(True, frozenset({"*"}))),
        (
            "multipart/related; type=application/dicom; transfer-syntax=*",
            Accepted(True, frozenset({"*"})),
        ),
        (
            'multipart/related; type="application/dicom"; transfer-syntax="*"',
            Accepted(True, frozenset({"*"})),
        ),
        (
            f"multipart/related; Type=application/dicom; Transfer-Syntax={J2K}",
            Accepted(True, frozenset({J2K})),
        ),
        (
            f"multipart/related; type=application/dicom; transfer-syntax={J2K}, "
            "multipart/related; type=application/dicom",
            Accepted(True, frozenset({J2K, EXPLICIT}), default=True),
        ),
        (
            f"multipart/related; type=application/dicom; transfer-syntax={J2K};q=0, */*;q=0.1",
            Accepted(True, frozenset({"*"})),
        ),
        (JOINED + ", */*;q=0.1", Accepted(True, frozenset({"*"}))),
    ],
)
def test_instances(accept: str | None, accepted: Accepted) -> None:
    assert choose_instances(accept, one=False) == accepted
    assert choose_instances(accept, one=True) == accepted


def test_one_instance_as_one_part() -> None:
    def chosen(accept: str) -> Accepted:
        return choose_instances(accept, one=True)

    assert chosen("application/dicom") == Accepted(False, frozenset({EXPLICIT}), default=True)
    assert chosen("application/dicom; transfer-syntax=*") == Accepted(False, frozenset({"*"}))
    assert chosen("application/*") == Accepted(False, frozenset({"*"}))
    both = "application/dicom;q=0.5, multipart/related; type=application/dicom"
    assert chosen(both).multipart
    with pytest.raises(NotAcceptable, match="multipart/related"):
        choose_instances("application/dicom", one=False)


@pytest.mark.parametrize(
    "accept", ["application/dicom+json", 'multipart/related; type="image/jpeg"', "text/html;q=1"]
)
def test_nothing_fits(accept: str) -> None:
    with pytest.raises(NotAcceptable, match='type="application/dicom"') as caught:
        choose_instances(accept, one=True)
    assert caught.value.available == (
        'multipart/related; type="application/dicom"',
        "application/dicom",
    )


@pytest.mark.parametrize(
    ("stored", "accept", "form"),
    [
        (EXPLICIT, None, Form.AS_STORED),
        (IMPLICIT, None, Form.REENCODED),
        (BIG, None, Form.REENCODED),
        (DEFLATED, None, Form.REENCODED),
        (JPEG_LOSSLESS, None, Form.DECODED),
        (JPEG_BASELINE, None, Form.AS_STORED),
        ("1.2.840.10008.1.2.4.94", None, Form.AS_STORED),
        (EXPLICIT, "*", Form.AS_STORED),
        (IMPLICIT, "*", Form.REENCODED),
        (BIG, "*", Form.REENCODED),
        (DEFLATED, "*", Form.AS_STORED),
        (JPEG_LOSSLESS, "*", Form.AS_STORED),
        (JPEG_BASELINE, "*", Form.AS_STORED),
        (JPEG_LOSSLESS, JPEG_LOSSLESS, Form.AS_STORED),
        (JPEG_LOSSLESS, J2K, Form.ENCODED),
        (EXPLICIT, J2K, Form.ENCODED),
        (IMPLICIT, IMPLICIT, Form.REENCODED),
        (JPEG_BASELINE, EXPLICIT, Form.DECODED),
        (JPEG_LOSSLESS, EXPLICIT, Form.DECODED),
    ],
)
def test_forms(stored: str, accept: str | None, form: Form | None) -> None:
    syntax = f"; transfer-syntax={accept}" if accept else ""
    accepted = choose_instances(f"multipart/related; type=application/dicom{syntax}", one=True)
    assert form_of(stored, accepted) is form


def test_every_syntax_is_served_as_stored_or_reencoded_under_any() -> None:
    accepted = choose_instances("*/*", one=True)
    for uid in TRANSFER_SYNTAXES:
        expected = Form.REENCODED if uid in NOT_FOR_THE_WEB else Form.AS_STORED
        assert form_of(uid, accepted) is expected


def test_quotes_and_escapes() -> None:
    (found,) = parse_accept(r'multipart/related; type="a,\"b;c"; q=0.3')
    assert found.parameters == {"type": 'a,"b;c'}
    assert found.quality == 0.3


@given(st.text(max_size=200))
def test_no_header_breaks_it(header: str) -> None:
    for media_range in parse_accept(header):
        assert 0 < media_range.quality <= 1
