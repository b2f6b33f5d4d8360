"""Policies and quiet times of the configuration, and what is said about mistakes in them."""

from datetime import timedelta
from pathlib import Path

import pytest

from gantry_domain.errors import ConfigurationError
from gantry_domain.policies.accession_number import AccessionNumberFormat
from gantry_domain.policies.evidence import Evidence
from gantry_domain.policies.findings import Action, VerdictKind
from gantry_domain.policies.patient_identity import PatientIdentity
from gantry_domain.policies.study_rules import ImagesPerStudy
from gantry_runtime.settings import Settings, load_settings

DESIGN = """
policies:
  - {rule: images_per_study, limit: 1000, action: warn}
  - {rule: accession_number, format: ha, action: warn}
  - {rule: patient_identity, identifier: hkid, action: hold}
complete_after: 5m
"""


def load(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "gantry.yaml"
    file.write_text(text)
    return load_settings({"GANTRY_CONFIG": str(file), "GANTRY_DATA": str(tmp_path)})


def test_the_policies_of_the_design(tmp_path: Path) -> None:
    images, accession, identity = load(tmp_path, DESIGN).policy_set.rules
    assert images == ImagesPerStudy(1000, Action.WARN, visible=True)
    assert accession == AccessionNumberFormat(
        "none", None, Action.WARN, visible=True, unique=True, as_ordered=True
    )
    assert identity == PatientIdentity(Action.HOLD, visible=False)


def test_without_policies_every_study_is_accepted(tmp_path: Path) -> None:
    verdict = load(tmp_path, "{}").policy_set.judge(Evidence(), was_visible=False)
    assert (verdict.kind, verdict.visible, verdict.findings) == (VerdictKind.ACCEPTED, True, ())


def test_a_rule_may_say_otherwise_who_sees_a_held_study(tmp_path: Path) -> None:
    (identity,) = load(
        tmp_path,
        "policies: [{rule: patient_identity, action: hold, visible: true, issuers: [HKSAR]}]",
    ).policy_set.rules
    assert identity == PatientIdentity(Action.HOLD, visible=True, issuers=("HKSAR",))


def test_a_plugged_in_check_is_part_of_the_rule(tmp_path: Path) -> None:
    plain = load(tmp_path, "policies: [{rule: accession_number}]").policy_set
    checked = load(tmp_path, "policies: [{rule: accession_number, check: modulus11}]").policy_set
    assert plain.fingerprint != checked.fingerprint


def test_quiet_times_per_modality_and_partner(tmp_path: Path) -> None:
    quiet = load(
        tmp_path,
        "partners: [{ae_title: CT01}]\n"
        "complete_after: {default: 2m, modalities: {US: 30m}, partners: {CT01: 10m}}\n",
    ).complete_after.quiet_times()
    assert quiet.of(ModalitiesInStudy=["CR"], calling_aes=[]) == timedelta(minutes=2)
    assert quiet.of(ModalitiesInStudy=["US"], calling_aes=["X"]) == timedelta(minutes=30)
    assert quiet.of(ModalitiesInStudy=["US"], calling_aes=["ct01"]) == timedelta(minutes=10)
    assert quiet.shortest == timedelta(minutes=2)
    assert quiet.learning == frozenset()
    learning = load(tmp_path, "complete_after: {learn: true, learned_at_least: 1m}").complete_after
    assert learning.quiet_times(["CT01"]).learning == {"CT01"}
    assert learning.quiet_times(["CT01"]).shortest == timedelta(minutes=1)
    asked = load(
        tmp_path, "partners: [{ae_title: CT01}]\ncomplete_after: {committed: {CT01: 20s}}\n"
    ).complete_after.quiet_times()
    assert asked.of(ModalitiesInStudy=[], calling_aes=["CT01"]) == timedelta(minutes=5)
    assert asked.of(ModalitiesInStudy=[], calling_aes=["CT01"], asked_by="CT01") == timedelta(
        seconds=20
    )
    assert load(tmp_path, "{}").complete_after.quiet_times().default == timedelta(minutes=5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "policies: [{rule: images_per_study, limt: 5}]",
            r"policies\[0\].limt: unknown key, did you mean limit\?",
        ),
        ("policies: [{limit: 5}]", r"policies\[0\].rule: is required"),
        ("policies: [{rule: images}]", r"policies\[0\].rule: must be one of 'images_per_study', "),
        ("policies: [{rule: images_per_study, limit: 0}]", r"policies\[0\].limit: must be great"),
        (
            "policies: [{rule: patient_identity, action: reject}]",
            r"policies\[0\].action: must be 'warn' or 'hold'",
        ),
        (
            "policies: [{rule: images_per_study, action: reject, when: {Modality: CT}}]",
            r"policies\[0\].*can ask for called_ae, calling_ae, partition, not for Modality",
        ),
        ("policies: [{rule: site, name: dose}]", r"there is no rule 'dose' of a package"),
        (
            "policies: [{rule: required_attributes, attributes: [PixelData]}]",
            r"'PixelData' is no attribute of a patient, a study or a series",
        ),
        (
            "policies: [{rule: patient_identity, keys: [PatientAge]}]",
            r"'PatientAge' is none of PatientID, PatientName",
        ),
        (
            "policies: [{rule: accession_number, check: luhn}]",
            r"policies\[0\].check: there is no accession number check 'luhn'; known are none, ",
        ),
        ("policies: {}", "policies: must be a list"),
        ("complete_after: 5", "complete_after.default: write a duration with its unit"),
        ("complete_after: {modalitys: {}}", "complete_after.modalitys: unknown key, did you mean"),
        ("complete_after: {modalities: {CT: 1}}", "complete_after.modalities.CT: write a duration"),
        ("complete_after: {counted: [CT1]}", "counted names CT1, which is no partner$"),
        ("complete_after: {learn: 5}", "complete_after.learn: "),
        ("complete_after: {partners: {CT1: 1m}}", "names CT1, which is no partner$"),
        ("complete_after: {committed: {CT1: 1m}}", "committed names CT1, which is no partner$"),
        (
            "partners: [{ae_title: CT01}]\ncomplete_after: {partners: {CT1: 1m}}",
            "names CT1, which is no partner, did you mean CT01",
        ),
    ],
)
def test_mistakes(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load(tmp_path, text)
