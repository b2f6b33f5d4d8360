"""Webhooks of the configuration and their secrets, and what is said about mistakes in them."""

import json
from pathlib import Path

import pytest

from gantry_domain.errors import ConfigurationError
from gantry_domain.events import EventKind
from gantry_runtime.settings import Settings, load_settings

RIS = "webhooks: [{name: ris, url: 'https://ris.example/hook'}]\n"
NEW, OLD = "whsec_" + "bmV3" * 8, "whsec_" + "b2xk" * 8


def load(tmp_path: Path, text: str, **environment: str) -> Settings:
    file = tmp_path / "gantry.yaml"
    file.write_text(text)
    names = {"GANTRY_CONFIG": str(file), "GANTRY_DATA": str(tmp_path)}
    return load_settings(names | environment)


def test_a_webhook_has_all_events_unless_it_names_some(tmp_path: Path) -> None:
    (webhook,) = load(tmp_path, RIS).webhooks
    assert webhook.events == tuple(EventKind)
    text = "webhooks: [{name: ris, url: 'https://ris.example', events: [complete, deleted]}]"
    (webhook,) = load(tmp_path, text).webhooks
    assert webhook.events == (EventKind.COMPLETE, EventKind.DELETED)
    assert load(tmp_path, text).subscribers == ("webhook:ris",)


def test_one_secret_or_two_while_one_replaces_the_other(tmp_path: Path) -> None:
    settings = load(tmp_path, RIS, GANTRY_WEBHOOK_SECRETS=json.dumps({"ris": [NEW, OLD]}))
    assert settings.webhook_keys("ris") == (b"new" * 8, b"old" * 8)
    assert NEW not in repr(settings)
    with pytest.raises(ConfigurationError, match="ris has no secret: set GANTRY_WEBHOOK_SECRETS"):
        load(tmp_path, RIS).webhook_keys("ris")


@pytest.mark.parametrize(
    "secrets",
    [
        "secret",
        "[]",
        '{"rsi": "whsec_secret"}',
        '{"ris": "secret"}',
        '{"ris": []}',
        '{"ris": ["secret"]}',
        json.dumps({"ris": [NEW, OLD, NEW]}),
        '{"ris": {"secret": 1}}',
    ],
)
def test_mistakes_in_secrets_do_not_show_them(tmp_path: Path, secrets: str) -> None:
    with pytest.raises(ConfigurationError) as failure:
        load(tmp_path, RIS, GANTRY_WEBHOOK_SECRETS=secrets)
    message = str(failure.value).replace("a secret is", "").replace("one secret", "")
    assert "GANTRY_WEBHOOK_SECRETS" in message
    assert "secret" not in message
    assert NEW not in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("webhooks: [{name: ris, url: 'ftp://ris.example'}]", "start of a web address"),
        ("webhooks: [{name: RIS 1, url: 'https://ris.example'}]", "small letters"),
        ("webhooks: [{url: 'https://ris.example'}]", "name"),
        (
            "webhooks: [{name: ris, url: 'https://ris.example', events: [completed]}]",
            "did you mean complete",
        ),
        (
            "webhooks: [{name: a, url: 'https://a.example'}, {name: a, url: 'https://b.example'}]",
            "listed twice",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load(tmp_path, text)
