"""Routes and destinations of the configuration, and what is said about mistakes in them."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from gantry_archive.web_destinations import sendable
from gantry_domain.errors import ConfigurationError
from gantry_domain.routes import Onward, StudyFacts, Trigger, onward
from gantry_runtime.settings import Settings, load_settings

PARTNER = "partners: [{ae_title: READING, address: 'reading.example:11112'}]\n"


def load(tmp_path: Path, text: str, **environment: str) -> Settings:
    file = tmp_path / "gantry.yaml"
    file.write_text(text)
    names = {"GANTRY_CONFIG": str(file), "GANTRY_DATA": str(tmp_path)}
    return load_settings(names | environment)


def test_a_route_of_the_design(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        PARTNER
        + "routes:\n"
        + "  - {name: night-reads, when: {Modality: [CT, MR], calling_ae: CT01},"
        + " send_to: [READING], trigger: complete}\n",
    )
    facts = StudyFacts(partition="main", ModalitiesInStudy=("MR",), calling_aes=("CT01",))
    assert onward(settings.route_table, facts) == (Onward("READING"),)
    other = StudyFacts(partition="main", ModalitiesInStudy=("MR",), calling_aes=("CT02",))
    assert onward(settings.route_table, other) == ()


def test_every_study_to_each_of_a_list(tmp_path: Path) -> None:
    settings = load(tmp_path, PARTNER + "routes: [{name: all, send_to: [READING]}]\n")
    assert onward(settings.route_table, StudyFacts(partition="x")) == (Onward("READING"),)


def test_defaults_of_sending(tmp_path: Path) -> None:
    policy = load(tmp_path, "{}").forward.retry_policy()
    assert policy.longest_delay(1) == timedelta(seconds=10)
    assert policy.longest_delay(99) == timedelta(minutes=5)


WEB = "partners: [{ae_title: WEB, dicomweb: 'https://web.example/dicomweb'}]\n"


def test_a_partner_over_dicomweb_and_who_we_are_to_it(tmp_path: Path) -> None:
    text = WEB + "routes: [{name: all, send_to: [WEB]}]"
    assert load(tmp_path, text).web_authorization("WEB") is None
    for secret, header in [("a.token", "Bearer a.token"), ("me:it is", "Basic bWU6aXQgaXM=")]:
        settings = load(tmp_path, text, GANTRY_DICOMWEB_SECRETS=json.dumps({"WEB": secret}))
        assert settings.web_authorization("WEB") == header
        assert secret not in repr(settings)


@pytest.mark.parametrize(
    "secrets", ["secret", "[]", '{"WEPB": "secret"}', '{"WEB": ""}', '{"WEB": "secret\\n"}']
)
def test_mistakes_in_secrets_do_not_show_them(tmp_path: Path, secrets: str) -> None:
    with pytest.raises(ConfigurationError) as failure:
        load(tmp_path, WEB, GANTRY_DICOMWEB_SECRETS=secrets)
    assert "GANTRY_DICOMWEB_SECRETS" in str(failure.value)
    assert "secret" not in str(failure.value)


def test_partners_that_are_a_folder_or_a_bucket(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "partners:\n"
        "  - {ae_title: VAULT, folder: exports, prove: find, rate: 1MB}\n"
        "  - {ae_title: CLOUD, bucket: 's3://exports/ours'}\n"
        "  - ae_title: OTHER\n"
        "    bucket: {url: 's3://exports', endpoint: 'https://a', ca_file: a.crt, profile: them}\n"
        "routes: [{name: a, send_to: [VAULT, CLOUD, OTHER]}]",
    )
    found = sendable(settings)
    assert str(found["VAULT"].place) == str(tmp_path / "exports")
    assert str(found["CLOUD"].place) == "s3://exports/ours"
    assert found["VAULT"].prove == "find"
    assert found["VAULT"].pacer is not None
    bucket = settings.partners[2].bucket
    assert bucket is not None
    place = bucket.bucket(bucket.url, profile=bucket.profile, base=settings.folder)
    assert (place.ca_file, place.profile, place.path_style) == (tmp_path / "a.crt", "them", True)


def test_who_must_not_know_needs_a_key(tmp_path: Path) -> None:
    text = PARTNER.replace("}", ", deidentify: true}")
    key = "a key of thirty-two characters.."
    settings = load(tmp_path, text, GANTRY_DEIDENTIFYING_KEY=key)
    assert settings.deidentifying_key == key.encode()
    assert key not in repr(settings)
    for short in ({}, {"GANTRY_DEIDENTIFYING_KEY": key[1:]}):
        with pytest.raises(ConfigurationError) as failure:
            load(tmp_path, text, **short)
        assert "deidentify of READING needs GANTRY_DEIDENTIFYING_KEY" in str(failure.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("routes: [{name: a, send_to: [NOBODY]}]", "route a sends to NOBODY"),
        (PARTNER + "routes: [{name: a, send_to: []}]", "a names no destination"),
        (
            PARTNER + "routes: [{name: a, when: {Modallity: CT}, send_to: [READING]}]",
            "a asks for Modallity",
        ),
        (
            PARTNER + "routes: [{name: a, when: {Modality: []}, send_to: [READING]}]",
            "nothing under Modality",
        ),
        (
            PARTNER + "routes: [{name: a, send_to: [READING]}, {name: a, send_to: [READING]}]",
            "the route a is listed twice",
        ),
        (PARTNER + "routes: [{name: a, send_to: [READING], trigger: never}]", "trigger"),
        (PARTNER + "routes: [{name: a, send_to: [READING], prio: 1}]", "prio"),
        ("partners: [{ae_title: R}]\nroutes: [{name: a, send_to: [R]}]", "not a partner with an"),
        ("forward: {backoff: {first: 10m, longest: 1m}}", "within the ceiling"),
        ("forward: {lease: 30}", "forward.lease"),
        (WEB.replace("}", ", address: 'a:1'}"), "write one of address, dicomweb"),
        (WEB.replace("}", ", prove: commitment}"), "write prove: find"),
        (WEB.replace("}", ", window: 4}"), "window"),
        ("partners: [{ae_title: R, deidentify: true}]", "needs a way to be sent to"),
        ("partners: [{ae_title: R, remove: [PatientComments]}]", "needs a way to be sent to"),
        (PARTNER.replace("}", ", deidentify: true, may: [store, get]}"), "it may not get"),
        (PARTNER.replace("}", ", remove: [PatientComment]}"), "PatientComment is no attribute"),
        (PARTNER.replace("}", ", remove: ['0010,40']}"), "0010,40 is no attribute"),
        (PARTNER.replace("}", ", remove: [Rows]}"), "Rows cannot be removed"),
        (PARTNER.replace("}", ", remove: ['0008,xxxx']}"), "SOPClassUID has to be there"),
        (PARTNER.replace("}", ", send_syntaxes: [1.2.3]}"), "1.2.3 is no transfer syntax"),
        (PARTNER.replace("}", ", send_syntaxes: [1.2.840.10008.1.2.4.70]}"), "one of them has to"),
        (WEB.replace("}", ", send_syntaxes: [1.2.840.10008.1.2]}"), "with dicomweb"),
        (PARTNER.replace("}", ", deidentify: true, notify: ian}"), "would be told UIDs"),
        (WEB.replace("https", "ftp"), "start of a web address"),
        ("partners: [{ae_title: V, folder: exports, dicomweb: 'http://a'}]", "one of dicomweb, fo"),
        ("partners: [{ae_title: V, folder: exports, prove: commitment}]", "write prove: find"),
        ("partners: [{ae_title: V, folder: exports, window: 4}]", "of no use with folder"),
        ("partners: [{ae_title: V, folder: exports, tls: true}]", "it needs an address"),
        ("partners: [{ae_title: V, bucket: 'https://a'}]", "is not s3://bucket"),
        ("partners: [{ae_title: V, bucket: {url: 's3://abc', create: true}}]", "create"),
        ("partners: [{ae_title: V, bucket: {url: 's3://abc', kms_key: k}}]", "aws:kms"),
    ],
)
def test_mistakes_are_one_line_with_the_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as failure:
        load(tmp_path, text)
    assert said in str(failure.value)
    assert "\n" not in str(failure.value)


def test_triggers_and_times_of_the_week(tmp_path: Path) -> None:
    text = PARTNER + (
        "routes: [{name: a, send_to: [READING], trigger: series, during: Mon-Fri 08:00-18:00}]\n"
        "complete_after: {default: 5m, series: 20s}\n"
    )
    settings = load(tmp_path, text.replace("Mon-Fri 08:00-18:00", "[Mon-Fri 08:00-18:00]"))
    (route,) = settings.route_table
    assert route.trigger is Trigger.SERIES
    assert len(route.during) == 1
    assert settings.complete_after.series == timedelta(seconds=20)
    for wrong, said in (("[Mon-Fri 8-18]", "time of the day"), ("[Mo]", "day of the week")):
        with pytest.raises(ConfigurationError, match=said):
            load(tmp_path, text.replace("Mon-Fri 08:00-18:00", wrong))
