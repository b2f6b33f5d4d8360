"""The public address: configured, from a trusted proxy, or the client's own words."""

from ipaddress import ip_network

import pytest
from starlette.requests import Request

from gantry_query.addresses import PublicAddress, resource
from gantry_stores.index.search import Subject

PROXIES = (ip_network("10.0.0.0/8"),)


def base(address: PublicAddress, client: str = "10.0.0.1", **headers: str) -> str:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": "/dicomweb/studies",
        "query_string": b"",
        "headers": raw,
        "client": (client, 1234),
        "server": ("127.0.0.1", 8080),
        "path_params": {},
    }
    return address.base(Request(scope))


def test_configured() -> None:
    address = PublicAddress("https://pacs.example/gantry/", PROXIES)
    assert base(address, forwarded="host=evil") == "https://pacs.example/gantry/dicomweb"


def test_what_the_client_says() -> None:
    address = PublicAddress(None, ())
    assert base(address, host="pacs:81") == "http://pacs:81/dicomweb"
    assert base(address, host="[::1]:81") == "http://[::1]:81/dicomweb"
    assert base(address) == "http://127.0.0.1:8080/dicomweb"
    assert base(address, host='x"><script>') == "http://127.0.0.1:8080/dicomweb"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            {"forwarded": 'for=1.2.3.4;proto=https;host="pacs.example:8443"'},
            "https://pacs.example:8443/dicomweb",
        ),
        (
            {"forwarded": "proto=https;host=outer, proto=http;host=inner"},
            "https://outer/dicomweb",
        ),
        (
            {
                "x_forwarded_proto": "https",
                "x_forwarded_host": "pacs.example",
                "x_forwarded_prefix": "/images/",
            },
            "https://pacs.example/images/dicomweb",
        ),
        ({"x_forwarded_proto": "javascript"}, "http://inner/dicomweb"),
        ({"x_forwarded_host": "a b"}, "http://127.0.0.1:8080/dicomweb"),
    ],
)
def test_a_trusted_proxy_is_believed_and_nobody_else(
    headers: dict[str, str], expected: str
) -> None:
    address = PublicAddress(None, PROXIES)
    assert base(address, host="inner", **headers) == expected
    assert base(address, client="192.0.2.1", host="inner", **headers) == "http://inner/dicomweb"
    assert base(address, client="socket", host="inner", **headers) == "http://inner/dicomweb"


def test_resources() -> None:
    assert resource("http://x", Subject("1.2", "1.3", "1.4")) == (
        "http://x/studies/1.2/series/1.3/instances/1.4"
    )
    assert resource("http://x", Subject("1/2")) == "http://x/studies/1%2F2"
