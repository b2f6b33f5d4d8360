"""A statement in the outline of PS3.2 Annex N, which is normative since the edition of 2023a.

Its sections are numbered from 1, as the template asks for: N.5.2 is 5.2.
"""

from collections.abc import Iterator

from gantry_domain.conformance import tables
from gantry_domain.conformance.annex_a import (
    AUDIENCE,
    CONTENTS,
    INTERFACES,
    REMARKS,
    SEQUENCE,
    STANDARD,
    all_keys,
    all_statuses,
    flow,
    functions,
    media,
)
from gantry_domain.conformance.document import Block
from gantry_domain.conformance.model import Statement
from gantry_domain.conformance.outline import Section, document, text, told
from gantry_domain.conformance.registry import Service

_SERVICES = (
    ("5.2.1", "Verification", Service.VERIFICATION),
    ("5.2.2", "Modality Worklist", Service.WORKLIST),
    ("5.2.3", "Modality Performed Procedure Step", Service.PERFORMED_STEP),
    ("5.2.4", "Print Management", Service.PRINT),
    ("5.2.5", "Storage", Service.STORAGE),
    ("5.2.6", "Storage Commitment", Service.COMMITMENT),
    ("5.2.7", "Query/Retrieve", Service.QUERY_RETRIEVE),
    ("5.2.8", "Other DIMSE services", Service.OTHER),
)


def annex_n(statement: Statement) -> list[Block]:
    """The document."""
    return document(statement, _sections(statement))


def _sections(statement: Statement) -> Iterator[Section]:
    lists = tables.SyntaxLists(statement)
    yield Section("1", "Conformance Statement Overview")
    yield Section("1.1", "Content and Transfer", [tables.network_services(statement)])
    yield Section("3", "Introduction")
    yield Section("3.1", "Audience", text(AUDIENCE))
    yield Section("3.2", "Remarks", text(REMARKS[statement.origin]))
    yield Section("4", "Implementation Model")
    yield Section("4.1", "Application Data Flow", flow(statement))
    yield Section("4.2", "Functional Definition of AEs", functions(statement))
    yield Section("4.3", "Sequencing of Activities", told(statement, SEQUENCE))
    yield Section("5", "Service and Interoperability Description")
    yield Section("5.2", "DIMSE Services")
    for number, title, service in _SERVICES:
        yield Section(number, title, _service(statement, service, lists))
    yield Section("5.3", "DICOM Web Services", tables.web_services(statement))
    yield Section("5.4", "Media Services", media(statement))
    yield Section("5.5", "Transformation of DICOM to CDA", [])
    yield Section("5.6", "Support of Character Sets", [tables.character_sets(statement)])
    yield Section("6", "Configuration")
    yield Section("6.1", "AE Title/Presentation Address Mapping", [tables.addresses(statement)])
    yield Section("6.2", "Configuration Parameters", tables.parameters(statement))
    yield Section("7", "Network and Media Communication Details")
    yield Section("7.1", "Network Interfaces", told(statement, INTERFACES))
    yield Section("7.2", "Application Entities")
    for place, entity in enumerate(statement.entities, start=1):
        blocks = tables.properties(f"Association policies of {entity.name}", entity.policies)
        if entity.rejections:
            blocks.append(tables.rejections(entity.rejections))
        yield Section(f"7.2.{place}", f"{entity.name} AE", blocks)
    yield Section("7.3", "Status Codes", all_statuses(statement))
    yield Section("7.4", "Transfer Syntaxes", lists.tables())
    yield Section("8", "Security", tables.security(statement))
    yield Section("9", "Information Object Definitions", told(statement, CONTENTS, STANDARD))
    yield Section("10", "Grayscale Standard Display Function", [])
    yield Section("11", "Coded Terminology and Templates", [])


def _service(statement: Statement, service: Service, lists: tables.SyntaxLists) -> list[Block]:
    blocks = tables.classes_of_service(statement, service, lists)
    if service is Service.STORAGE and blocks:
        blocks += told(statement, CONTENTS)
    if service is Service.QUERY_RETRIEVE:
        blocks += all_keys(statement)
    return blocks
