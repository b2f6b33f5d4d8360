"""A port of ours is held against our statement: nothing differs, and what is planted is found."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from gantry_archive.checking import STRANGER, Checked, Port, check, ports_of
from gantry_archive.dimse_door import partners_of, user_identities
from gantry_archive.own_entities import STORAGE
from gantry_archive.own_statement import own_statement
from gantry_archive.probing import Called, probe
from gantry_archive.served_contexts import storage_contexts
from gantry_cli.conformance import check_ourselves
from gantry_dimse.contexts import SupportedContexts
from gantry_dimse.requesting import Timeouts
from gantry_domain.conformance.differences import accepted_as_scp
from gantry_domain.conformance.model import Statement
from gantry_domain.information_models import INFORMATION_MODELS, WORKLIST_CLASSES
from gantry_domain.sop_classes import VERIFICATION
from gantry_domain.transfer_syntaxes import TRANSFER_SYNTAXES
from gantry_runtime.settings import Settings, load_settings
from gantry_testkit.archive_doors import archive_doors
from gantry_testkit.certificates import Authority
from gantry_testkit.door import EXPLICIT, IMPLICIT, Door
from gantry_testkit.ports import free_port

CT, MR, PRIVATE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4"
US = "1.2.840.10008.5.1.4.1.1.6.1"
COMMITMENT = "1.2.840.10008.1.20.1"
LOOKED_AT = (VERIFICATION, CT, MR, PRIVATE, COMMITMENT)
OpenDoor = Callable[..., Door]

QUERY_CLASSES = [uid for model in INFORMATION_MODELS for uid in model.classes]
# All services, and what is not taken by all of the configurations below.
EVERYWHERE = (*LOOKED_AT, US, *QUERY_CLASSES, *WORKLIST_CLASSES)

NO_STRANGERS = "unknown_partners: {store: refuse, query: refuse, worklist: refuse}"
REFUSED = f"""
{NO_STRANGERS}
partners: [{{ae_title: CT01}}, {{ae_title: FAR, hosts: [192.0.2.1]}}]
"""
RESTRICTED = f"""
partners:
  - {{ae_title: CT01, transfer_syntaxes: ["{IMPLICIT}", "{EXPLICIT}"]}}
  - {{ae_title: MR01, accept_classes: ["{MR}"]}}
ingress: {{sop_classes: ["{PRIVATE}"], accept_classes: ["{CT}", "{MR}", "{PRIVATE}"]}}
"""
IDENTIFIED = "user_identity: {required: true}"


def settings_of(folder: Path, text: str) -> Settings:
    file = folder / "gantry.yaml"
    file.write_text(text)
    return load_settings({"GANTRY_CONFIG": str(file), "GANTRY_DATA": str(folder)})


def secrets(text: str) -> dict[str, str]:
    return {"GANTRY_DIMSE_PASSCODES": '{"a": "b"}'} if text == IDENTIFIED else {}


def served(open_door: OpenDoor, settings: Settings, **options: object) -> Door:
    """The front door as the ingress makes it, with storage in memory."""
    partners = partners_of(
        settings,
        settings.ingress,
        accept_unknown=settings.unknown_partners.store == "accept",
    )
    return open_door(
        supported=options.pop("supported", None) or storage_contexts(settings),
        admit=partners.admit,
        terms=partners.terms,
        identities=user_identities(settings),
        **options,
    )


def called(door: Door, calling_ae: str = "CT01") -> Called:
    return at(door.port, calling_ae)


def at(port: int, calling_ae: str) -> Called:
    return Called(
        host="127.0.0.1",
        port=port,
        called_ae="GANTRY",
        calling_ae=calling_ae,
        timeouts=Timeouts(),
    )


def checked(door: Door, settings: Settings, statement: Statement | None = None) -> list[Checked]:
    return list(
        check(
            settings,
            statement or own_statement(settings),
            caller=lambda _port, calling_ae: called(door, calling_ae),
            ports=[Port("front door", door.port, STORAGE)],
            classes=LOOKED_AT,
        )
    )


def tls_only(folder: Path) -> str:
    """Every caller has to show a certificate; ours is that of CT01."""
    authority = Authority(folder / "ca")
    own, caller = authority.sign("gantry"), authority.sign("ct scanner 1")
    ports = free_port(), free_port()
    return f"""
{NO_STRANGERS}
partners: [{{ae_title: CT01, certificate: [CT scanner 1]}}, {{ae_title: MR01, certificate: [mr]}}]
listen:
  tls_port: {ports[0]}
  query_tls_port: {ports[1]}
  tls_certificate: {own.certificate}
  tls_key: {own.key}
  tls_ca: {authority.certificate}
forward:
  tls_ca: {authority.certificate}
  tls_certificate: {caller.certificate}
  tls_key: {caller.key}
"""


@pytest.mark.parametrize(
    ("configuration", "taken"),
    [
        (lambda _: "", {STRANGER: {CT, MR, US}}),
        (lambda _: REFUSED, {STRANGER: set(), "CT01": {CT, MR, US}, "FAR": set()}),
        (
            lambda _: RESTRICTED,
            {STRANGER: {CT, MR, PRIVATE}, "CT01": {CT, MR, PRIVATE}, "MR01": {MR}},
        ),
        (tls_only, {STRANGER: set(), "CT01": set(), "MR01": set()}),
        (lambda _: IDENTIFIED, {STRANGER: set()}),
    ],
    ids=["default", "strangers refused", "classes restricted", "TLS alone", "users identified"],
)
def test_what_runs_does_what_it_says(
    module_engine: Engine,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    configuration: Callable[[Path], str],
    taken: dict[str, set[str]],
) -> None:
    """All DIMSE doors, as `gantry conformance check` looks at them.

    `taken`: by caller, what the front door takes without TLS.
    """
    text = configuration(tmp_path)
    with archive_doors(module_engine, tmp_path, text, environment=secrets(text)) as doors:
        assert check_ourselves(doors.settings, classes=EVERYWHERE) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines.pop() == "Gantry does what its conformance statement says"
        ports = ports_of(doors.settings)
        assert len(lines) == len(ports) * len(taken)
        assert all(", no differences" in line for line in lines)
        assert {line.split(" as ")[1].split(":")[0] for line in lines} == taken.keys()
        # That nothing differs could also mean that nothing is stated.
        images = (CT, MR, US, PRIVATE)
        for title, classes in taken.items():
            probed = probe(
                at(ports[0].number, title),
                name="X",
                classes=images,
                transfer_syntaxes=(EXPLICIT,),
                pause=0.0,
            )
            assert accepted_as_scp(probed.statement.supports()).keys() == classes
        over_tls = [line for line in lines if "TLS) as CT01" in line]
        assert len(over_tls) == (4 if doors.settings.listen.tls_port else 0)
        assert not any("rejected" in line for line in over_tls)


@pytest.mark.long
def test_all_that_is_stated_is_so(module_engine: Engine, tmp_path: Path) -> None:
    """Each class in each of its transfer syntaxes, at each port."""
    with archive_doors(module_engine, tmp_path) as doors:
        assert check_ourselves(doors.settings) == 0


def test_a_door_that_takes_less_is_found(open_door: OpenDoor, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "")
    syntaxes = [uid for uid in TRANSFER_SYNTAXES if uid != IMPLICIT]
    door = served(
        open_door,
        settings,
        supported=SupportedContexts(storage_classes=[CT], transfer_syntaxes=syntaxes),
    )
    ((commitment, first, second),) = (each.differences for each in checked(door, settings))
    assert commitment.endswith(f"({COMMITMENT}) is stated and not accepted")
    assert first == (
        f"CT Image Storage ({CT}) is stated and not accepted in Implicit VR Little Endian"
    )
    assert second == f"MR Image Storage ({MR}) is stated and not accepted"


def test_a_statement_that_says_less_is_found(open_door: OpenDoor, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "")
    whole = own_statement(settings)
    storage, *others = whole.entities
    supports = tuple(each for each in storage.supports if each.uid != MR)
    less = replace(whole, entities=(replace(storage, supports=supports), *others))
    ((found,),) = (
        each.differences for each in checked(served(open_door, settings), settings, less)
    )
    assert found == f"MR Image Storage ({MR}) is accepted and not stated"


def test_a_door_that_lets_others_in_or_out_is_found(open_door: OpenDoor, tmp_path: Path) -> None:
    refusing, open_to_all = settings_of(tmp_path, REFUSED), settings_of(tmp_path, "")
    stranger, *_partners = checked(served(open_door, open_to_all), refusing)
    assert stranger.differences == (
        "associations are accepted that are stated to be rejected 1/1/3",
    )
    (stranger,) = checked(served(open_door, refusing), open_to_all)
    (found,) = stranger.differences
    assert found.startswith("an association is rejected that is stated to be accepted: ")
    assert "1/1/3" in found


def test_a_probe_sends_nothing_and_stops_at_a_rejection(
    open_door: OpenDoor, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, REFUSED)
    door = served(open_door, settings)
    waits: list[float] = []
    probed = probe(called(door), name="X", classes=LOOKED_AT, pause=0.25, wait=waits.append)
    assert probed.stopped is None
    assert waits == [0.25] * (probed.associations - 1)
    assert not door.storage.stored
    stopped = probe(called(door, "NOBODY"), name="X", classes=LOOKED_AT, wait=waits.append)
    assert "1/1/3" in str(stopped.stopped)
    assert stopped.associations == 1
    assert not list(stopped.statement.supports())
