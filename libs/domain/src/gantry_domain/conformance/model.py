"""A conformance statement as a value, ours or another's: what every form is read to and made of."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Who asks and who answers (PS3.7 6.1)."""

    SCU = "SCU"
    SCP = "SCP"


class WebRole(StrEnum):
    """Who asks and who answers over HTTP (PS3.18 3)."""

    USER_AGENT = "user agent"
    ORIGIN_SERVER = "origin server"


class Origin(StrEnum):
    """Where a statement comes from."""

    OWN = "own"
    """Made of the tables and the configuration of what runs."""
    READ = "read"
    """Read from a document."""
    PROBED = "probed"
    """Learnt from a peer by proposing to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where in a document an entry was found: line (from 1), its text, and how sure that is."""

    line: int
    text: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """What is said of one SOP class in one role.

    `name` is as the statement has it. `role` is None where it says none, `transfer_syntaxes` where
    it is silent about them.
    """

    uid: str
    name: str
    role: Role | None = None
    supported: bool = True
    transfer_syntaxes: tuple[str, ...] | None = None
    found: Found | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One named fact, such as a limit of associations."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionClaim:
    """When an association is rejected, and how (PS3.8 Table 9-21)."""

    result: int
    source: int
    reason: int
    when: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One application entity: `activity` and `remote` are the two ends of its data flow."""

    name: str
    ae_titles: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    description: str = ""
    activity: str = ""
    remote: str = ""
    supports: tuple[Support, ...] = ()
    policies: tuple[Property, ...] = ()
    rejections: tuple[RejectionClaim, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryKey:
    """One key of a query; `matching` is None where it is only returned."""

    service: str
    level: str
    tag: str
    keyword: str
    role: Role = Role.SCP
    matching: str | None = None
    always_returned: bool = False
    found: Found | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusClaim:
    """One status of a service and what it means; a code is four hex digits, or a range."""

    service: str
    role: Role
    code: str
    name: str
    behaviour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebTransaction:
    """One request of the web services; `media_types` are those of its answers, or of what a user
    agent sends, or wants to read."""

    name: str
    method: str
    path: str
    media_types: tuple[str, ...] = ()
    statuses: tuple[Property, ...] = ()
    role: WebRole = WebRole.ORIGIN_SERVER


class MediaRole(StrEnum):
    """What an entity does with media (PS3.10 7.1)."""

    CREATOR = "File-set Creator"
    READER = "File-set Reader"


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaProfile:
    """An application profile of media (PS3.11), for what, and in which transfer syntaxes."""

    name: str
    role: MediaRole
    activity: str = ""
    transfer_syntaxes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityProfile:
    """A security profile or measure, and whether it is in use."""

    name: str
    supported: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of the configuration: `value` as it is set now, `allowed` its range."""

    name: str
    default: str
    value: str
    allowed: str = ""
    meaning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A line that a reader could not make sense of, though it looks as if it said something."""

    line: int
    text: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A conformance statement. What it is silent about is empty or None."""

    product: str
    origin: Origin
    version: str = ""
    vendor: str = ""
    entities: tuple[Entity, ...] = ()
    keys: tuple[QueryKey, ...] = ()
    statuses: tuple[StatusClaim, ...] = ()
    web: tuple[WebTransaction, ...] = ()
    media: tuple[MediaProfile, ...] = ()
    character_sets: tuple[str, ...] | None = None
    security: tuple[SecurityProfile, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    unread: tuple[Unread, ...] = ()

    def supports(self) -> Iterator[Support]:
        """What is said of SOP classes, by all entities."""
        for entity in self.entities:
            yield from entity.supports
