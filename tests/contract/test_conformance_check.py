"""A port of ours is held against our statement: nothing differs, and what is planted is found."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gantry_archive.checking import STRANGER, Checked, Port, check
from gantry_archive.dimse_door import partners_of, user_identities
from gantry_archive.own_entities import STORAGE
from gantry_archive.own_statement import own_statement
from gantry_archive.probing import Called, probe
from gantry_archive.served_contexts import storage_contexts
from gantry_dimse.contexts import SupportedContexts
from gantry_dimse.requesting import Timeouts
from gantry_domain.conformance.model import Statement
from gantry_domain.sop_classes import VERIFICATION
from gantry_domain.transfer_syntaxes import TRANSFER_SYNTAXES
from gantry_runtime.settings import Settings, load_settings
from gantry_testkit.door import EXPLICIT, IMPLICIT, Door

CT, MR, PRIVATE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4"
COMMITMENT = "1.2.840.10008.1.20.1"
LOOKED_AT = (VERIFICATION, CT, MR, PRIVATE, COMMITMENT)
OpenDoor = Callable[..., Door]

REFUSED = """
unknown_partners: refuse
partners: [{ae_title: CT01}, {ae_title: FAR, hosts: [192.0.2.1]}]
"""
RESTRICTED = f"""
partners: [{{ae_title: CT01, transfer_syntaxes: ["{IMPLICIT}", "{EXPLICIT}"]}}]
ingress: {{sop_classes: ["{PRIVATE}"]}}
"""
IDENTIFIED = "user_identity: {required: true}"


def settings_of(folder: Path, text: str) -> Settings:
    file = folder / "gantry.yaml"
    file.write_text(text)
    passcodes = {"GANTRY_DIMSE_PASSCODES": '{"a": "b"}'} if text == IDENTIFIED else {}
    return load_settings({"GANTRY_CONFIG": str(file), "GANTRY_DATA": str(folder), **passcodes})


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


def called(door: Door, calling_ae: str = "CT01", called_ae: str = "GANTRY") -> Called:
    return Called(
        host="127.0.0.1",
        port=door.port,
        called_ae=called_ae,
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


@pytest.mark.parametrize(
    ("text", "callers"),
    [
        ("", [STRANGER]),
        (REFUSED, [STRANGER, "CT01", "FAR"]),
        (RESTRICTED, [STRANGER, "CT01"]),
        (IDENTIFIED, [STRANGER]),
    ],
    ids=["default", "refused", "restricted", "identified"],
)
def test_nothing_differs(
    open_door: OpenDoor, tmp_path: Path, text: str, callers: list[str]
) -> None:
    settings = settings_of(tmp_path, text)
    found = checked(served(open_door, settings), settings)
    assert [each.calling_ae for each in found] == callers
    assert [each.differences for each in found] == [()] * len(callers)


def test_a_door_that_takes_less_is_found(open_door: OpenDoor, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "")
    syntaxes = [uid for uid in TRANSFER_SYNTAXES if uid != IMPLICIT]
    door = served(
        open_door,
        settings,
        supported=SupportedContexts(storage_classes=[CT], transfer_syntaxes=syntaxes),
    )
    ((first, second),) = (each.differences for each in checked(door, settings))
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
