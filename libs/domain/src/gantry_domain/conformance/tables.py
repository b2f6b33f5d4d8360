"""The tables of a statement, which both outlines of PS3.2 show: as blocks of a document."""

from collections.abc import Iterable, Sequence

from gantry_domain.conformance.document import NOT_STATED, Block, Paragraph, Table
from gantry_domain.conformance.model import (
    Origin,
    Property,
    RejectionClaim,
    Role,
    Statement,
    Support,
    WebRole,
    WebTransaction,
)
from gantry_domain.conformance.registry import Service, service_of, syntax_name


class SyntaxLists:
    """The lists of transfer syntaxes of a statement, each once and with a name."""

    def __init__(self, statement: Statement) -> None:
        self._lists: dict[tuple[str, ...], str] = {}
        for support in statement.supports():
            if support.transfer_syntaxes:
                name = f"TS {len(self._lists) + 1}"
                self._lists.setdefault(support.transfer_syntaxes, name)

    def name(self, syntaxes: tuple[str, ...] | None) -> str:
        """What a list is called."""
        if syntaxes is None:
            return NOT_STATED
        return self._lists[syntaxes] if syntaxes else "none"

    def tables(self) -> list[Block]:
        """The lists themselves, in order of preference."""
        return [
            Table(
                f"{name}: transfer syntaxes, in this order",
                ("Transfer syntax", "UID"),
                tuple((syntax_name(uid), uid) for uid in syntaxes),
            )
            for syntaxes, name in self._lists.items()
        ]


def network_services(statement: Statement) -> Table:
    """Which services there are, as a user and as a provider (Table A.1-1)."""
    rows = []
    for service in Service:
        roles = {
            each.role
            for each in statement.supports()
            if each.supported and service_of(each.uid) is service
        }
        user, provider = (_yes(role in roles) for role in (Role.SCU, Role.SCP))
        if roles == {None}:
            user = provider = NOT_STATED
        if service is not Service.OTHER or roles:
            rows.append((service.value, user, provider))
    return Table(
        "Network services",
        ("Service", "User of the service (SCU)", "Provider of the service (SCP)"),
        tuple(rows),
    )


def sop_classes(caption: str, supports: Iterable[Support], lists: SyntaxLists) -> Table:
    """SOP classes with role and transfer syntaxes."""
    return Table(
        caption,
        ("SOP class", "UID", "Role", "Transfer syntaxes"),
        tuple(
            (
                each.name,
                each.uid,
                each.role.value if each.role else NOT_STATED,
                lists.name(each.transfer_syntaxes) if each.supported else "not supported",
            )
            for each in supports
        ),
    )


def classes_of_service(statement: Statement, service: Service, lists: SyntaxLists) -> list[Block]:
    """The SOP classes of a service, with the transfer syntaxes of each entity in each role."""
    said: dict[tuple[str, str], dict[str, Support]] = {}
    names: dict[str, str] = {}
    for entity in statement.entities:
        for each in entity.supports:
            if service_of(each.uid) is service:
                role = each.role.value if each.role else "role not stated"
                said.setdefault((entity.name, role), {})[each.uid] = each
                names.setdefault(each.uid, each.name)
    if not names:
        return []
    rows = tuple(
        (
            name,
            uid,
            *(
                lists.name(support.transfer_syntaxes)
                if (support := column.get(uid)) and support.supported
                else "no"
                for column in said.values()
            ),
        )
        for uid, name in names.items()
    )
    columns = (f"{entity} as {role}" for entity, role in said)
    caption = f"{service.value}: SOP classes, and the list of transfer syntaxes in each role"
    return [Table(caption, ("SOP class", "UID", *columns), rows)]


def properties(caption: str, facts: Sequence[Property]) -> list[Block]:
    """Named facts."""
    rows = tuple((each.name, each.value) for each in facts)
    return [Table(caption, ("What", "Value"), rows)] if rows else []


def rejections(claims: Sequence[RejectionClaim]) -> Block:
    """How associations are rejected."""
    return Table(
        "Association rejection reasons",
        ("Result", "Source", "Reason", "When"),
        tuple((str(each.result), str(each.source), str(each.reason), each.when) for each in claims),
    )


def statuses(statement: Statement, service: str, role: Role) -> Block:
    """The statuses of one service in one role."""
    rows = tuple(
        (each.code, each.name, each.behaviour)
        for each in statement.statuses
        if each.service == service and each.role is role
    )
    what = "What is answered, and when" if role is Role.SCP else "What an answer means to us"
    return Table(f"{service} as {role}: {what}", ("Status", "Name", "Meaning"), rows)


def query_keys(statement: Statement, service: str) -> Block:
    """The keys of a query by level, with how they are matched."""
    rows = tuple(
        (
            each.level,
            f"({each.tag[:4]},{each.tag[4:]})",
            each.keyword,
            each.matching or "returned only",
        )
        for each in statement.keys
        if each.service == service
    )
    return Table(f"Keys of {service}", ("Level", "Tag", "Keyword", "Matching"), rows)


def web_services(statement: Statement) -> list[Block]:
    """The requests of the web services, and what their status codes mean, in each role."""
    blocks: list[Block] = []
    for role in (WebRole.ORIGIN_SERVER, WebRole.USER_AGENT):
        requests = [each for each in statement.web if each.role is role]
        if requests:
            blocks += _web_requests(requests, role)
    return blocks


def _web_requests(requests: Sequence[WebTransaction], role: WebRole) -> list[Block]:
    rows = tuple(
        (
            each.name,
            f"{each.method} {each.path}",
            ", ".join(each.media_types),
            ", ".join(status.name for status in each.statuses),
        )
        for each in requests
    )
    meanings: dict[tuple[str, str], list[str]] = {}
    for each in requests:
        for status in each.statuses:
            meanings.setdefault((status.name, status.value), []).append(each.name)
    statuses = tuple(
        (code, meaning, _of_requests(names, [each.name for each in requests]))
        for (code, meaning), names in sorted(meanings.items())
    )
    meaning = "Meaning" if role is WebRole.ORIGIN_SERVER else "Behavior"
    return [
        Table(
            f"Requests of the web services, as {role}",
            ("Request", "Method and path", "Media types", "Status codes"),
            rows,
        ),
        Table(
            f"Status codes of the web services, as {role}",
            ("Status code", meaning, "Requests"),
            statuses,
        ),
    ]


def _of_requests(names: Sequence[str], every: Sequence[str]) -> str:
    others = [each for each in every if each not in names]
    if not others:
        return "all"
    return f"all but {', '.join(others)}" if len(others) < len(names) else ", ".join(names)


def media(statement: Statement) -> list[Block]:
    """The application profiles of media, in each role."""
    rows = tuple(
        (each.name, each.role, each.activity, ", ".join(map(syntax_name, each.transfer_syntaxes)))
        for each in statement.media
    )
    headings = ("Application profile", "Role", "Real-world activity", "Transfer syntaxes")
    return [Table("Media storage application profiles", headings, rows)] if rows else []


def addresses(statement: Statement) -> Table:
    """Where the entities are reached, and under which titles."""
    ours = statement.origin is Origin.OWN
    no_title, no_address = ("none", "it calls others") if ours else (NOT_STATED, NOT_STATED)
    return Table(
        "Application entities",
        ("Entity", "AE titles", "Where it listens"),
        tuple(
            (
                each.name,
                ", ".join(each.ae_titles) or no_title,
                "; ".join(each.addresses) or no_address,
            )
            for each in statement.entities
        ),
    )


def parameters(statement: Statement) -> list[Block]:
    """The parameters of the configuration."""
    rows = tuple(
        (each.name, each.default, each.value, each.allowed, each.meaning)
        for each in statement.parameters
    )
    caption = "Configuration parameters, all configurable by the service staff"
    columns = ("Parameter", "Default", "Set to", "Range", "Meaning")
    return [Table(caption, columns, rows)] if rows else []


def character_sets(statement: Statement) -> Block:
    """The terms of Specific Character Set."""
    if statement.character_sets is None:
        return Paragraph(NOT_STATED)
    return Paragraph(", ".join(statement.character_sets) or "The default repertoire alone.")


def security(statement: Statement) -> list[Block]:
    """The security profiles."""
    rows = tuple((each.name, _yes(each.supported), each.detail) for each in statement.security)
    return [Table("Security", ("Profile or measure", "In use", "Detail"), rows)] if rows else []


def _yes(value: bool) -> str:
    return "Yes" if value else "No"
