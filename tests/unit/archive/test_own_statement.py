"""Our own statement says what the code does: held against the code, not against a copy of it."""

import ast
import inspect
from pathlib import Path
from types import ModuleType

import pytest

from gantry_archive import find_failures, proving
from gantry_archive.own_entities import QUERY, SENDER, STORAGE
from gantry_archive.refusal_statuses import STATUSES
from gantry_domain import statuses, sub_operations
from gantry_domain.attributes import ATTRIBUTES
from gantry_domain.availability import INSTANCE_AVAILABILITY_NOTIFICATION
from gantry_domain.commitment import STORAGE_COMMITMENT_PUSH
from gantry_domain.conformance import behaviour
from gantry_domain.conformance.document import Table
from gantry_domain.conformance.forms import OUTLINES, rendered
from gantry_domain.conformance.lint import lint
from gantry_domain.conformance.model import (
    Entity,
    MediaRole,
    Origin,
    Role,
    Statement,
    Support,
    WebRole,
)
from gantry_domain.conformance.reading import read_statement
from gantry_domain.conformance.tables import web_services
from gantry_domain.information_models import INFORMATION_MODELS
from gantry_domain.media_profiles import PROFILES
from gantry_domain.orders.attributes import PLACES, STATUS
from gantry_domain.sop_classes import STORAGE_CLASSES, VERIFICATION
from gantry_domain.statuses import Rejection, Status
from gantry_domain.store_responses import read_store_status
from gantry_domain.transfer_syntaxes import TRANSFER_SYNTAXES
from gantry_ingress import committing, reception
from gantry_query import find, retrieve
from gantry_query.own_web import whole_statement
from gantry_runtime.settings import Settings, load_settings
from gantry_worklist import find as worklist_find
from gantry_worklist import performing


def settings_of(folder: Path, text: str = "") -> Settings:
    file = folder / "gantry.yaml"
    file.write_text(text)
    return load_settings({"GANTRY_CONFIG": str(file), "GANTRY_DATA": str(folder)})


@pytest.fixture(scope="module")
def statement(tmp_path_factory: pytest.TempPathFactory) -> Statement:
    return whole_statement(settings_of(tmp_path_factory.mktemp("statement")))


def entity(statement: Statement, name: str) -> Entity:
    (found,) = (each for each in statement.entities if each.name == name)
    return found


def used(module: ModuleType) -> set[Status]:
    """The statuses that the code of a module names."""
    tree = ast.parse(inspect.getsource(module))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found = (getattr(statuses, name, None) for name in names)
    return {each for each in found if isinstance(each, Status)}


def test_each_status_of_the_code_is_stated_and_no_other() -> None:
    assert set(behaviour.C_STORE) == set(STATUSES.values()) | used(reception)
    for service in (find, worklist_find):
        assert set(behaviour.C_FIND) == used(service) | used(find_failures)
    assert set(behaviour.PERFORMED_STEP) == used(performing)
    assert set(behaviour.COMMITMENT) == used(committing)
    assert set(behaviour.COMMITMENT_REPORT) == used(proving)
    assert set(behaviour.C_MOVE) == used(retrieve) | used(sub_operations)


def test_each_rejection_that_there_is_is_stated() -> None:
    there_are = {each for each in vars(statuses).values() if isinstance(each, Rejection)}
    assert set(behaviour.REJECTIONS) == there_are


def test_what_we_send_is_judged_as_stated(statement: Statement) -> None:
    claims = [each for each in statement.statuses if each.role is Role.SCU]
    for claim in claims:
        first = int(claim.code[:4], 16)
        assert read_store_status(first).status.name == claim.name or "-" in claim.code
    assert {"0000", "A700-A7FF", "A900-A9FF", "C000-CFFF", "B000", "B006", "B007"} <= {
        claim.code for claim in claims
    }


def test_classes_and_syntaxes_are_those_of_the_tables(statement: Statement) -> None:
    storage = entity(statement, STORAGE)
    messages = {VERIFICATION, STORAGE_COMMITMENT_PUSH}
    assert {each.uid for each in storage.supports} == {*messages, *STORAGE_CLASSES}
    for each in storage.supports:
        if each.uid not in messages:
            assert each.transfer_syntaxes == tuple(TRANSFER_SYNTAXES)
    query = entity(statement, QUERY)
    asked = {each.uid for each in query.supports if each.role is Role.SCP}
    assert asked == {VERIFICATION, *(uid for model in INFORMATION_MODELS for uid in model.classes)}
    assert {each.uid for each in query.supports if each.role is Role.SCU} == set(STORAGE_CLASSES)
    assert len([each for each in statement.keys if each.service == "C-FIND"]) == len(ATTRIBUTES)
    asked = {each.keyword: each for each in statement.keys if each.service == "Modality Worklist"}
    assert asked.keys() == {*PLACES, STATUS.keyword}
    assert asked["PatientName"].matching
    assert not asked["Allergies"].matching


def test_the_configuration_is_in_it(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path,
        """
ae_titles: [HOSPITAL]
database: postgresql://somebody@db.hospital.example/index
ingress: {sop_classes: [1.2.3.4], max_associations: 7, acse_timeout: 11s, max_object_size: 2GiB}
delete: {enabled: true}
partners: [{ae_title: RIS, address: "ris.example:104", notify: ian}]
""",
    )
    made = whole_statement(settings)
    storage = entity(made, STORAGE)
    assert storage.ae_titles == ("HOSPITAL",)
    sender = {each.uid: each.role for each in entity(made, SENDER).supports}
    assert sender[INSTANCE_AVAILABILITY_NOTIFICATION] is Role.SCU
    assert "1.2.3.4" in {each.uid for each in storage.supports}
    facts = {each.name: each.value for each in storage.policies}
    assert facts["Associations at a time"] == "7"
    assert facts["ACSE time-out"] == "11 s"
    shown = {each.name: (each.default, each.value) for each in made.parameters}
    assert shown["ingress.max_object_size"] == ("16 GiB", "2 GiB")
    assert shown["database"] == ("not set", "set")
    assert shown["unknown_partners.store"] == ("accept", "accept")
    assert "hospital.example" not in rendered(made, form="json")
    assert deletes_studies(made)


def deletes_studies(statement: Statement) -> bool:
    return any(each.method == "DELETE" and "/studies/" in each.path for each in statement.web)


def test_the_web_services_are_those_that_are_served(statement: Statement) -> None:
    assert not deletes_studies(statement)
    assert any(each.method == "POST" and each.path == "/dicomweb/studies" for each in statement.web)


@pytest.mark.parametrize("outline", OUTLINES)
def test_unused_sections_keep_their_heading(statement: Statement, outline: str) -> None:
    lines = rendered(statement, form="markdown", outline=outline).splitlines()
    for title in ("CDA", "Coded Terminology"):
        (place,) = (n for n, line in enumerate(lines) if line.startswith("#") and title in line)
        assert lines[place + 2] == "N/A"


@pytest.mark.parametrize("outline", OUTLINES)
def test_of_others_nothing_is_said_that_is_true_of_us(outline: str) -> None:
    entity = Entity(name="PACS", supports=(Support(uid=VERIFICATION, name="V", role=Role.SCP),))
    probed = Statement(product="PACS", origin=Origin.PROBED, entities=(entity,))
    lines = rendered(probed, form="markdown", outline=outline).splitlines()
    assert any("learnt of a peer" in line for line in lines)
    assert not any("made by the product itself" in line or "N/A" in line for line in lines)
    for title in ("Security", "Network Interfaces", "CDA", "Parameters"):
        (place,) = (n for n, line in enumerate(lines) if line.startswith("#") and title in line)
        assert lines[place + 2] == "not stated"


@pytest.mark.parametrize("form", ["html", "markdown"])
@pytest.mark.parametrize("outline", OUTLINES)
def test_what_is_written_is_read_again(statement: Statement, outline: str, form: str) -> None:
    """By the reader of others' statements, which knows nothing of ours."""
    written = rendered(statement, form=form, outline=outline)
    reading = read_statement(written.encode(), name="x")
    found = {
        (each.uid, each.role): set(each.transfer_syntaxes or ())
        for each in reading.statement.supports()
        if each.supported
    }
    stated: dict[tuple[str, Role | None], set[str]] = {}
    for each in statement.supports():
        stated.setdefault((each.uid, each.role), set()).update(each.transfer_syntaxes or ())
    assert found == stated
    assert not reading.statement.unread
    assert {each.rule for each in lint(reading)} == {"retired_class"}


def test_codes_of_the_web_services_are_told_once(statement: Statement) -> None:
    tables = [table.rows for table in web_services(statement) if isinstance(table, Table)]
    for role, first, second in zip(
        (WebRole.ORIGIN_SERVER, WebRole.USER_AGENT), tables[::2], tables[1::2], strict=True
    ):
        requests = [each for each in statement.web if each.role is role]
        assert len(first) == len(requests)
        told = {(code, meaning) for code, meaning, _requests in second}
        assert told == {(each.name, each.value) for web in requests for each in web.statuses}
        assert len(told) == len(second)
    (found,) = (requests for code, _, requests in tables[1] if code == "304")
    assert found.startswith("all but store")


@pytest.mark.parametrize("outline", OUTLINES)
def test_as_user_agent_it_stores_and_searches(statement: Statement, outline: str) -> None:
    written = rendered(statement, form="markdown", outline=outline)
    for request in ("POST {partner}/studies", "GET {partner}/studies/{study}/series/{series}"):
        assert request in written
    assert "as user agent" in written


def test_the_page_holds_every_class_and_the_picture(statement: Statement) -> None:
    page = rendered(statement, form="html")
    assert all(f">{uid}</td>" in page for uid in STORAGE_CLASSES)
    assert page.count("<svg") == 1
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("outline", sorted(OUTLINES))
def test_media_are_what_exports_make_and_imports_read(statement: Statement, outline: str) -> None:
    assert {each.role for each in statement.media} == set(MediaRole)
    for each in statement.media:
        assert each.transfer_syntaxes == PROFILES[each.name]
        assert set(each.transfer_syntaxes) <= set(TRANSFER_SYNTAXES)
    title = {"a": "# A.5 Media Interchange", "n": "# 5.4 Media Services"}[outline]
    document = rendered(statement, form="markdown", outline=outline)
    section = document.split(title)[1].split("\n#")[0]
    for name in PROFILES:
        assert section.count(name) == len(MediaRole)
    assert "File-set ID is GANTRY" in section
