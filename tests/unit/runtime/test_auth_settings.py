"""Who may use the web door: what the file and the tokens say, and what is said about mistakes."""

from collections.abc import Callable

import pytest

from gantry_domain.errors import ConfigurationError
from gantry_runtime.settings import Settings

Load = Callable[..., Settings]

TOKEN = "hush-hush-hush-hush"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auth: password", "auth.kind: must be 'none', 'token' or 'proxy'"),
        ("auth: {kind: none, clients: {a: {}}}", "auth: clients is of no use with the kind none"),
        ("auth: {kind: token, others: {}}", "auth: others is of no use with the kind token"),
        ("auth: {kind: token, clients: {a: {scope: [read]}}}", "auth.clients.a.scope: unknown key"),
        ("auth: {kind: token, clients: {a: {scopes: [write]}}}", "'order' or 'forward'"),
        ("auth: {kind: proxy, others: {scopes: [review]}}", "review is of no use without read"),
        ("auth: {kind: token, clients: {a: {scopes: []}}}", "must have at least 1 item"),
        ("auth: proxy", "nobody may do anything"),
        ("auth: {kind: proxy, others: {}}", "needs http.trusted_proxies"),
        ("auth: {kind: proxy, others: {}, user_header: 'a b'}", "'a b' is no name of a header"),
    ],
)
def test_a_mistake_is_named_by_its_key(load: Load, text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hush", "must be a JSON object"),
        ("[]", "must be a JSON object"),
        ("{}", "must be a JSON object"),
        ('{"viewer": "hush"}', "the token of viewer must have at least 16 characters"),
        ('{"viewer": []}', "the token of viewer must have"),
        ('{"viewer": [1]}', "the token of viewer must have"),
        ('{"viewer": "hush hush hush hush"}', "the token of viewer must have"),
        (f'{{"": "{TOKEN}"}}', "the token of a client without a name"),
        (f'{{"a": ["{TOKEN}", "{TOKEN}"]}}', "a token of a is there twice"),
        (f'{{"a": "{TOKEN}", "b": "{TOKEN}"}}', "a token of b is there twice"),
    ],
)
def test_tokens_are_a_mapping_and_not_shown(load: Load, text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=f"GANTRY_HTTP_TOKENS.* ?{expected}") as caught:
        load("auth: token", GANTRY_HTTP_TOKENS=text)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("auth: token", "", "nobody has a token"),
        ("auth: none", f'{{"a": "{TOKEN}"}}', "write `auth: token`"),
        ("", f'{{"a": "{TOKEN}"}}', "write `auth: token`"),
        (
            "auth: {kind: token, clients: {b: {}}}",
            f'{{"a": "{TOKEN}"}}',
            "the client a has a token",
        ),
        (
            "auth: {kind: token, clients: {a: {}, b: {}}}",
            f'{{"a": "{TOKEN}"}}',
            "the client b has no token",
        ),
    ],
)
def test_clients_and_tokens_fit_together(load: Load, text: str, tokens: str, expected: str) -> None:
    settings = load(text, GANTRY_HTTP_TOKENS=tokens)
    with pytest.raises(ConfigurationError, match=expected) as caught:
        _ = settings.web_clients
    assert "hush" not in str(caught.value)
    assert "hush" not in repr(settings)


def test_what_clients_may_do(load: Load) -> None:
    every = load("auth: token", GANTRY_HTTP_TOKENS=f'{{"a": "{TOKEN}"}}').web_clients
    assert (every["a"].scopes, every["a"].partitions) == (("read",), None)
    north = load(
        "auth: {kind: token, clients: {a: {scopes: [read, store], partitions: [north]}}}",
        GANTRY_HTTP_TOKENS=f'{{"a": "{TOKEN}"}}',
    ).web_clients
    assert (north["a"].scopes, north["a"].partitions) == (("read", "store"), ("north",))
    assert load().web_clients == {}


@pytest.mark.parametrize(
    ("text", "tokens", "allowed"),
    [
        ("", "", True),
        ("auth: none", "", True),
        ("listen: {address: 0.0.0.0}\nauth: none", "", False),
        ("listen: {address: 0.0.0.0}\nauth: token", f'{{"a": "{TOKEN}"}}', True),
        # Behind a proxy everybody comes from loopback.
        ("http: {public_url: 'https://pacs.example'}", "", False),
        ("http: {trusted_proxies: [127.0.0.1]}", "", False),
        ("http: {trusted_proxies: [127.0.0.1]}\nauth: {kind: proxy, others: {}}", "", True),
    ],
)
def test_strangers_delete_nothing(load: Load, text: str, tokens: str, allowed: bool) -> None:
    names = {"GANTRY_HTTP_TOKENS": tokens} if tokens else {}
    assert not load(text, **names).delete.enabled
    text += "\ndelete: {enabled: true}"
    if allowed:
        assert load(text, **names).delete.enabled
    else:
        with pytest.raises(ConfigurationError, match="whoever reaches DICOMweb could delete"):
            load(text, **names)
