"""Who gets through the web door: tokens and proxies, and what browsers and clients see of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network

import httpx
import pytest
from dicomweb_client.api import DICOMwebClient

from gantry_query.access import Client, ProxyAccess, Right, TokenAccess
from gantry_runtime.auth_section import Grant
from gantry_stores.objects import DirectoryStore
from gantry_testkit.stored import file_of, image

READER = Client("reader", frozenset({Right.READ}))
NORTH = Client("north", frozenset({Right.READ, Right.STORE}), frozenset({"north"}))
SENDER = Client("sender", frozenset({Right.STORE}))
TOKENS = {"reader": "r" * 20, "north": "n" * 20, "sender": "s" * 20}
ACCESS = TokenAccess(
    [
        (READER, [TOKENS["reader"], "an-older-token-of-it"]),
        (NORTH, [TOKENS["north"]]),
        (SENDER, [TOKENS["sender"]]),
    ]
)
PAGE = "https://viewer.example"
PARTITION = "/p/north/dicomweb"


@contextmanager
def door(serve, engine, folder, access) -> Iterator[httpx.Client]:
    with (
        serve(engine, DirectoryStore(folder), access=access) as base,
        httpx.Client(base_url=base.removesuffix("/dicomweb")) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def http(serve, module_engine, tmp_path_factory) -> Iterator[httpx.Client]:
    with door(serve, module_engine, tmp_path_factory.mktemp("objects"), ACCESS) as client:
        yield client


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[name]}"}


def store(http: httpx.Client, headers: dict[str, str], base: str = "/dicomweb") -> httpx.Response:
    body = b"--XX\r\nContent-Type: application/dicom\r\n\r\n" + file_of(image()) + b"\r\n--XX--"
    kind = 'multipart/related; type="application/dicom"; boundary=XX'
    return http.post(f"{base}/studies", content=body, headers={**headers, "Content-Type": kind})


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, "a bearer token is needed"),
        ({"Authorization": "Bearer"}, "a bearer token is needed"),
        ({"Authorization": "Basic cmVhZGVyOnJyCg=="}, "a bearer token is needed"),
        ({"Authorization": "Bearer " + "x" * 20}, "this token is not known"),
        ({"Authorization": f"Bearer {TOKENS['reader']}, {TOKENS['north']}"}, "is not known"),
    ],
)
def test_who_shows_no_token_that_is_known_gets_nothing(http, headers, error):
    for path in ("/dicomweb/studies", "/dicomweb/openapi.json", "/p/none/dicomweb/x", "/"):
        answer = http.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith('Bearer realm="gantry"')
        assert error in answer.json()["error"]
    assert store(http, headers).status_code == 401


def test_a_token_opens_what_it_is_for_and_no_more(http):
    assert http.get("/dicomweb/studies", headers=bearer("reader")).json() == []
    assert http.get(f"{PARTITION}/studies", headers=bearer("reader")).json() == []
    older = {"Authorization": "bearer  an-older-token-of-it"}
    assert http.get("/dicomweb/studies", headers=older).status_code == 200
    refused = store(http, bearer("reader"))
    assert refused.status_code == 403
    assert 'error="insufficient_scope", scope="store"' in refused.headers["www-authenticate"]
    assert refused.json() == {"error": "this needs the right to store"}

    assert store(http, bearer("sender")).status_code == 200
    assert http.get("/dicomweb/studies", headers=bearer("sender")).status_code == 403


def test_a_token_of_one_partition_opens_no_other(http):
    assert http.get(f"{PARTITION}/studies", headers=bearer("north")).json() == []
    assert store(http, bearer("north"), PARTITION).status_code == 200
    for path in ("/dicomweb/studies", "/p/main/dicomweb/studies", "/p/%6dain/dicomweb/studies"):
        answer = http.get(path, headers=bearer("north"))
        assert (answer.status_code, answer.json()["error"]) == (
            403,
            "there is no right to this partition",
        )
    assert http.get("/p/nor%74h/dicomweb/studies", headers=bearer("north")).status_code == 200


def test_a_page_can_ask_beforehand_and_read_why_it_is_refused(http):
    asked = http.options(
        "/dicomweb/studies",
        headers={"Origin": PAGE, "Access-Control-Request-Headers": "authorization"},
    )
    assert asked.status_code == 204
    assert "authorization" in asked.headers["access-control-allow-headers"]
    refused = http.get("/dicomweb/studies", headers={"Origin": PAGE})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == PAGE


def test_a_client_library_signs_in(http):
    url = f"{http.base_url}/dicomweb"
    assert DICOMwebClient(url, headers=bearer("reader")).search_for_studies() == []
    with pytest.raises(OSError, match="401"):
        DICOMwebClient(url).search_for_studies()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 401),
        ([("X-Remote-User", "")], 401),
        ([("X-Remote-User", "ann"), ("X-Remote-User", "root")], 401),
        ([("X-Forwarded-User", "ann")], 401),
        ([("X-Remote-User", "ann")], 200),
        ([("X-Remote-User", "somebody")], 200),
    ],
)
def test_a_proxy_names_the_user(serve, module_engine, tmp_path, headers, status):
    access = ProxyAccess(
        {"ann": Client("ann", frozenset({Right.READ, Right.STORE}))},
        others=Grant(),
        header="X-Remote-User",
        proxies=[ip_network("127.0.0.0/8")],
    )
    with door(serve, module_engine, tmp_path, access) as http:
        assert http.get("/dicomweb/studies", headers=headers).status_code == status
        if status == 200:
            stored = store(http, dict(headers)).status_code
            assert stored == (200 if headers[0][1] == "ann" else 403)


def test_whoever_is_not_the_proxy_is_not_believed(serve, module_engine, tmp_path):
    access = ProxyAccess(
        {"ann": READER},
        others=None,
        header="X-Remote-User",
        proxies=[ip_network("10.0.0.0/8")],
    )
    with door(serve, module_engine, tmp_path, access) as http:
        answer = http.get("/dicomweb/studies", headers={"X-Remote-User": "ann"})
    assert answer.status_code == 403
    assert answer.json() == {"error": "requests are taken from the proxy alone"}
