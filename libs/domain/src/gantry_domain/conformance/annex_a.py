"""A statement in the outline of PS3.2 Annex A, as it was until the edition of 2023."""

from collections.abc import Iterator

from gantry_domain.conformance import tables
from gantry_domain.conformance.data_flow import data_flow
from gantry_domain.conformance.document import Block, Picture
from gantry_domain.conformance.model import Entity, Origin, Role, Statement
from gantry_domain.conformance.outline import Section, document, text, told


def annex_a(statement: Statement) -> list[Block]:
    """The document."""
    return document(statement, _sections(statement))


def _sections(statement: Statement) -> Iterator[Section]:
    yield Section("A.1", "Conformance Statement Overview", [tables.network_services(statement)])
    yield Section("A.3", "Introduction")
    yield Section("A.3.1", "Audience", text(AUDIENCE))
    yield Section("A.3.2", "Remarks", text(REMARKS[statement.origin]))
    yield Section("A.4", "Networking")
    yield Section("A.4.1", "Implementation Model")
    yield Section("A.4.1.1", "Application Data Flow", flow(statement))
    yield Section("A.4.1.2", "Functional Definition of AEs", functions(statement))
    yield Section("A.4.1.3", "Sequencing of Real-World Activities", told(statement, SEQUENCE))
    yield Section("A.4.2", "AE Specifications")
    lists = tables.SyntaxLists(statement)
    for number, entity in enumerate(statement.entities, start=1):
        yield from _entity(f"A.4.2.{number}", entity, lists)
    following = len(statement.entities) + 1
    yield Section(f"A.4.2.{following}", "Transfer Syntaxes", lists.tables())
    yield Section(f"A.4.2.{following + 1}", "Status Codes", all_statuses(statement))
    yield Section(f"A.4.2.{following + 2}", "Query Keys", all_keys(statement))
    yield Section(f"A.4.2.{following + 3}", "Web Services", tables.web_services(statement))
    yield Section("A.4.3", "Network Interfaces", told(statement, INTERFACES))
    yield Section("A.4.4", "Configuration")
    yield Section("A.4.4.1", "AE Title/Presentation Address Mapping", [tables.addresses(statement)])
    yield Section("A.4.4.2", "Parameters", tables.parameters(statement))
    yield Section("A.5", "Media Interchange", media(statement))
    yield Section("A.6", "Transformation of DICOM to CDA", [])
    yield Section("A.7", "Support of Character Sets", [tables.character_sets(statement)])
    yield Section("A.8", "Security", tables.security(statement))
    yield Section("A.9", "Annexes")
    yield Section("A.9.1", "IOD Contents", told(statement, CONTENTS))
    yield Section("A.9.2", "Data Dictionary of Private Attributes", [])
    yield Section("A.9.3", "Coded Terminology and Templates", [])
    yield Section("A.9.4", "Grayscale Image Consistency", [])
    yield Section(
        "A.9.5", "Standard Extended/Specialized/Private SOP Classes", told(statement, STANDARD)
    )


def _entity(number: str, entity: Entity, lists: tables.SyntaxLists) -> Iterator[Section]:
    yield Section(number, f"{entity.name} AE")
    classes = [tables.sop_classes(f"SOP classes of {entity.name}", entity.supports, lists)]
    yield Section(f"{number}.1", "SOP Classes", classes if entity.supports else [])
    yield Section(
        f"{number}.2",
        "Association Policies",
        tables.properties(f"Association policies of {entity.name}", entity.policies),
    )
    calls = any(each.role is Role.SCU for each in entity.supports)
    initiation = "It proposes the classes that it supports as an SCU." if calls else ""
    yield Section(f"{number}.3", "Association Initiation Policy", text(initiation))
    accepts = [tables.rejections(entity.rejections)] if entity.rejections else []
    yield Section(f"{number}.4", "Association Acceptance Policy", accepts)


AUDIENCE = (
    "For those who connect devices and archives to this one. They should know the terms of DICOM."
)
REMARKS = {
    Origin.OWN: (
        "This statement was made by the product itself, of the tables by which it works and of the "
        "configuration with which it runs. That two statements fit together does not promise that "
        "two products work together: that has to be tested."
    ),
    Origin.PROBED: (
        "This statement was learnt of a peer by proposing to it what it might accept. What it asks "
        "of others, what it answers and how it is configured is not in it."
    ),
    Origin.READ: "This statement was read from a document.",
}
SEQUENCE = (
    "An instance is stored, then answered with Success, then indexed; its study is judged, then "
    "visible, then forwarded. A partner may send, query and retrieve in any order and over any "
    "number of associations: the end of an association means nothing."
)
INTERFACES = (
    "DICOM Upper Layer over TCP/IP (PS3.8), by IPv4 or IPv6 as the address says on which it "
    "listens. It uses no DHCP and no NTP of its own: its clock is that of the machine."
)
CONTENTS = (
    "No instances are created. Those that are received are kept byte by byte as they were sent "
    "(storage level 2, full), and nothing is coerced in what is stored. What is sent in another "
    "transfer syntax than the one stored has the same values. Values of the patient and the study "
    "that a person corrected are sent corrected, with those before in the Original Attributes "
    "Sequence (PS3.3 C.12.1)."
)
STANDARD = (
    "Standard conformance for all SOP classes of PS3.4. Instances of the private ones are kept and "
    "sent as they are."
)


MEDIA = (
    "File-sets are made in a folder or a ZIP file (PS3.12), which people put on media. All storage "
    "SOP classes are written and read that the storage AE takes. Instances in other syntaxes than "
    "those of the profile are converted; none is compressed. File IDs are DICOM, ST and six digits "
    "for the study, SE and six for the series, IM and six for the instance; the File-set ID is "
    "GANTRY. There is no descriptor file, no icon image and no private directory record. Mandatory "
    "keys that an instance lacks are supplied in the DICOMDIR: UNKNOWN, 19000101, 000000, 0. Text "
    "there is in UTF-8 where ASCII is not enough. File meta information names no AE. Of a file-set "
    "that is read each file that its DICOMDIR names is taken, in any transfer syntax that is "
    "stored; file-sets are not updated."
)


def media(statement: Statement) -> list[Block]:
    """The application profiles of media, and what we say of those that we make."""
    found = tables.media(statement)
    return [*found, *told(statement, MEDIA)] if found else []


def flow(statement: Statement) -> list[Block]:
    """The picture of the data flow, and the same in words."""
    if not statement.entities:
        return []
    words = "; ".join(
        f"{each.activity} - {each.name} - {each.remote}" for each in statement.entities
    )
    return [Picture(data_flow(statement.entities), f"Data flow: {words}.")]


def functions(statement: Statement) -> list[Block]:
    """What each entity does."""
    described = (f"{each.name}: {each.description}" for each in statement.entities)
    return list(text(*described))


def all_statuses(statement: Statement) -> list[Block]:
    """The statuses of each service in each role."""
    stated = dict.fromkeys((each.service, each.role) for each in statement.statuses)
    return [tables.statuses(statement, service, role) for service, role in stated]


def all_keys(statement: Statement) -> list[Block]:
    """The keys of each query."""
    services = dict.fromkeys(each.service for each in statement.keys)
    return [tables.query_keys(statement, service) for service in services]
