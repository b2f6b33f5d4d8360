"""What the configuration says of orders: the worklist's port, and how messages of HL7 are read."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from gantry_domain.errors import ConfigurationError
from gantry_runtime.section import Section
from gantry_runtime.services import DimseDoor
from gantry_runtime.values import (
    AETitle,
    Duration,
    HostAndPort,
    Network,
    PartitionName,
    Size,
    check_charset,
    parse_duration,
)

_BIG5 = "BIG5"


def _check_message_charset(value: str) -> str:
    # Messages may be in Big5, which images have no term for.
    return value if value == _BIG5 else check_charset(value)


class Stations(Section):
    """Which stations perform the steps for which an order names none."""

    ae_titles: Annotated[tuple[AETitle, ...], Field(strict=False, min_length=1)]
    modality: str | None = None
    """As in (0008,0060); None: any."""
    location: str | None = None
    """The room, as in (0040,0011); None: any."""


class Poll(Section):
    """Another system whose worklist is taken over, into the partition of `hl7`."""

    ae_title: AETitle
    """A partner with an address."""
    every: Duration = parse_duration("60s")
    days: Annotated[int, Field(ge=0, le=366)] = 7
    """It is asked for yesterday, today and so many days more."""
    gone: Literal["cancel", "keep"] = "cancel"
    """What becomes of an order that it no longer tells of."""


class Worklist(DimseDoor):
    """The DIMSE port of the worklist and MPPS."""

    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """Of which each listens for HL7 too."""
    max_matches: Annotated[int, Field(ge=1)] | None = None
    """At most so many matches of one query are returned, then A700; None: all, for a modality
    takes any other end for a failure."""
    unassigned: Literal["show", "hide"] = "show"
    """Whether a step without a station is shown to any station that asks for its own."""
    polls: Annotated[tuple[Poll, ...], Field(strict=False)] = ()
    performed_to: Annotated[tuple[AETitle, ...], Field(strict=False)] = ()
    """Partners that are told of every performed step that a modality tells us of."""
    stations: Annotated[tuple[Stations, ...], Field(strict=False)] = ()
    """The first that fits a step counts."""


class PatientIdentifier(Section):
    """Which of several identifiers in PID-3 is the patient's; the first, where none is this."""

    authority: str | None = None
    """The assigning authority, PID-3.4."""
    type: str | None = None
    """The type code, PID-3.5."""


class HL7Receiver(Section):
    """A system that is told by HL7, over MLLP, that the images of a procedure are here."""

    name: PartitionName
    """By which it is known to people: small letters, digits and hyphens."""
    address: HostAndPort
    application: str = ""
    """MSH-5."""
    facility: str = ""
    """MSH-6."""
    order_status: Literal["CM", "A", "IP"] = "CM"
    """ORC-5 (HL7 Table 0038): completed; some, but not all, results available; in process."""
    partition: PartitionName = "main"
    tls: bool = False
    """It is called over TLS; the files are those of `forward`."""
    tls_name: str | None = None
    """For which it has to show a certificate then; None: for the host of `address`."""
    timeout: Duration = parse_duration("30s")
    """For the connection, and for each acknowledgement."""

    @property
    def subscriber(self) -> str:
        """How it is called among all who are told."""
        return f"hl7:{self.name}"

    @model_validator(mode="after")
    def _name_of_a_certificate(self) -> Self:
        if self.tls_name is not None and not self.tls:
            raise ValueError("tls_name is of no use without tls: true")
        return self


class HL7(Section):
    """The listener of HL7 over MLLP, what its messages mean, and who is told by HL7."""

    hosts: Annotated[tuple[Network, ...], Field(strict=False)] | None = None
    """Who may send; None: this machine alone."""
    max_connections: Annotated[int, Field(ge=1, le=1000)] = 64
    """Of one process, at a time."""
    max_message_size: Size = 16 * 2**20
    message_timeout: Duration = parse_duration("60s")
    """From the first byte of a message to its last."""
    idle_timeout: Duration = parse_duration("1d")
    """How long a connection may be without a message."""
    send_timeout: Duration = parse_duration("30s")
    """How long a sender may not take its acknowledgement."""
    database_patience: Duration = parse_duration("20s")
    """How long a message waits for the database; then its connection is closed, unanswered."""
    keep_messages: Duration = parse_duration("30d")
    """How long messages are kept as they came."""
    alive_for: Duration = parse_duration("1d")
    """The feed counts as alive so long after its last message."""
    acknowledge: Literal["original", "enhanced"] = "original"
    """Whether MSH-15 and MSH-16 decide which answers there are; many set them and expect one."""
    partition: PartitionName = "main"
    charset: Annotated[str, AfterValidator(_check_message_charset)] | None = None
    """Of messages that name none (MSH-18), as in (0008,0005), or BIG5."""
    ignore: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Types of messages that are acknowledged and have no effect, such as ORU or ADT^A60."""
    identifier: PatientIdentifier = PatientIdentifier()
    mapping: dict[str, Annotated[tuple[str, ...], Field(strict=False)]] = Field(
        default_factory=dict
    )
    """By attribute, the fields that feed it, in place of ours: {Modality: [OBR-24, OBR-21.1]}."""

    receivers: Annotated[tuple[HL7Receiver, ...], Field(strict=False)] = ()
    """Who is told that the images of a procedure are here."""

    @field_validator("receivers")
    @classmethod
    def _known_once(cls, receivers: tuple[HL7Receiver, ...]) -> tuple[HL7Receiver, ...]:
        names = [receiver.name for receiver in receivers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the receiver {name} is listed twice")
        return receivers

    @field_validator("ignore")
    @classmethod
    def _types_of_messages(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        for each in types:
            kind, _, event = each.partition("^")
            if not (kind.isalnum() and kind.isupper() and (event.isalnum() or each == kind)):
                raise ValueError(f"{each!r} is no type of message: write one such as ORU^R01")
        return types

    @field_validator("mapping")
    @classmethod
    def _known_attributes(cls, mapping: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if mapping:
            # The table comes with the dictionary, which supervisors and commands do without.
            from gantry_domain.hl7.mapping import order_mapping

            try:
                order_mapping(mapping)
            except ConfigurationError as error:
                raise ValueError(str(error)) from error
        return mapping
