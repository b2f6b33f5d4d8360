"""What the configuration says of partners: devices and archives that we know, and strangers."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from gantry_domain.day_times import DaySpan, parse_day_span
from gantry_runtime.objects import FolderPath, PartnerBucketOrText
from gantry_runtime.section import Section
from gantry_runtime.storage_classes import StorageClasses
from gantry_runtime.values import (
    AETitle,
    CharacterSet,
    HostAndPort,
    Network,
    PartitionName,
    Size,
    UniqueIdentifier,
    WebAddress,
)

# Those of gantry_domain.transfer_syntaxes, whose table takes long to be imported.
_IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


class Partner(Section):
    """A device or archive that we know by its AE title."""

    ae_title: AETitle
    hosts: Annotated[tuple[Network, ...], Field(strict=False)] | None = None
    """The networks it may call from; None: anywhere."""
    charset: CharacterSet | None = None
    """For data sets that name no character set or a wrong one."""
    partition: PartitionName = "main"
    certificate: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None
    """It has to show a certificate with one of these, over TLS: its common name, an alternative
    name (DNS, URI), or its SHA-256 fingerprint; None: it needs none."""
    may: (
        Annotated[
            tuple[Literal["store", "find", "move", "get", "worklist", "mpps"], ...],
            Field(strict=False),
        ]
        | None
    ) = None
    """What it may ask of us besides C-ECHO; None: all of it."""
    sees: Literal["visible", "held"] = "visible"
    """What it finds and retrieves: with `held`, studies too that policies keep out of sight."""
    max_associations: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """At a time, on each DIMSE port; None: what the port says of every AE title."""
    transfer_syntaxes: Annotated[tuple[UniqueIdentifier, ...], Field(strict=False)] | None = None
    """Those alone are accepted for its images, in this order; None: all, in ours."""
    accept_classes: StorageClasses | None = None
    """Storage classes by UID: of what is taken at all, those alone of it; None: all."""
    empty_sequences: Literal["empty", "item"] = "empty"
    """What a worklist tells it of a code sequence without a code: nothing, or an item with empty
    attributes, without which some devices take no answer."""
    duplicates: Literal["keep_first", "take_last"] = "keep_first"
    """Which of two instances counts that have the same UID and differ in demographics alone."""
    commitment_report: Literal["new", "same"] = "new"
    """Over which association it is told what became of its requests for storage commitment: a new
    one to its `address`, or that of the request, which has to last so long. Without an address it
    can be that of the request alone."""
    address: HostAndPort | None = None
    """Where it listens, as host:port."""
    dicomweb: WebAddress | None = None
    """What the URLs of its DICOMweb server begin with: it is sent to over STOW-RS, and has no
    `address`. A token or password is in GANTRY_DICOMWEB_SECRETS."""
    folder: FolderPath | None = None
    """What is sent to it becomes files in this folder, which has to be there; it has no `address`.
    """
    bucket: PartnerBucketOrText | None = None
    """What is sent to it becomes objects in this bucket; it has no `address`."""
    tls: bool = False
    """We call it over TLS; the files are those of `forward`."""
    tls_name: str | None = None
    """For which it has to show a certificate then, and over https; None: for the host of
    `address` or `dicomweb`."""
    calling_ae: AETitle | None = None
    """How we call ourselves to it; None: the first of our own titles."""
    rate: Size | None = None
    """Bytes a second that it is sent at most, by each worker; None: as fast as it takes them."""
    send_between: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Times of the day at which routes send to it, such as 22:00-06:00, in `timezone`; empty: any.
    What a person pushes goes at once."""
    prove: Literal["commitment", "find"] | None = None
    """How it is asked, after a delivery, whether it keeps what was sent: by storage commitment, or
    by a query for each series; None: its answers to the instances are believed."""
    deidentify: bool = False
    """What is sent to it has no identities (PS3.15 Annex E), and it may ask for nothing;
    GANTRY_DEIDENTIFYING_KEY is the key of the pseudonyms."""
    remove: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Attributes that it does not get: keywords, tags such as 0010,4000 or 60xx,3000, or
    `private`."""
    send_syntaxes: Annotated[tuple[UniqueIdentifier, ...], Field(strict=False)] = ()
    """It is sent these transfer syntaxes alone; what is stored in another one is converted to the
    first of them that is uncompressed. Empty: as stored, if it takes that."""
    rejection_notes: bool = False
    """Whether it understands the rejection notes of IHE IOCM: it is sent one before new values of
    instances that it has, and when a study that it has is refused."""
    replaced_title: Literal["113001", "113037", "113038", "113039"] = "113039"
    """The title of the note before new values. Most archives take instances with the same UIDs once
    more after 113039 alone, as IHE has it."""
    window: Annotated[int, Field(ge=2, le=64)] | None = None
    """So many instances may wait for its answers at once, if it agrees (asynchronous operations);
    None: one, and it is not asked."""

    notify: Literal["ian"] | None = None
    """How it is told which instances of its partition can be retrieved from us: by Instance
    Availability Notification, when a study is complete, and when some of it is deleted; None: not
    at all."""

    @property
    def availability_subscriber(self) -> str | None:
        """How it is called among all who are told; None: it is not told so."""
        return None if self.notify is None else f"ian:{self.ae_title}"

    @property
    def takes_deliveries(self) -> bool:
        """Whether it can be sent to, in one of the ways."""
        return bool(self._ways)

    @property
    def _ways(self) -> list[str]:
        ways = ("address", "dicomweb", "folder", "bucket")
        return [way for way in ways if getattr(self, way) is not None]

    @property
    def rights(self) -> frozenset[str] | None:
        """What it may ask of us; None: all of it."""
        if self.may is None:
            return frozenset(("store",)) if self.deidentify else None
        return frozenset(self.may)

    @property
    def day_spans(self) -> tuple[DaySpan, ...]:
        """`send_between` as values."""
        return tuple(map(parse_day_span, self.send_between))

    @field_validator("send_between")
    @classmethod
    def _times_of_the_day(cls, spans: tuple[str, ...]) -> tuple[str, ...]:
        for each in spans:
            parse_day_span(each)
        return spans

    @model_validator(mode="after")
    def _who_is_asked_has_an_address(self) -> Self:
        if self.prove is not None and not self.takes_deliveries:
            raise ValueError(
                "prove is about what is sent to a partner: it needs an address, dicomweb, a folder "
                "or a bucket"
            )
        return self

    @model_validator(mode="after")
    def _who_is_told_has_an_address(self) -> Self:
        if self.notify is not None and self.address is None:
            raise ValueError("notify is over DIMSE: it needs an address")
        if self.notify is not None and self.deidentify:
            raise ValueError(
                "notify: it would be told UIDs, which with deidentify it must not know"
            )
        return self

    @model_validator(mode="after")
    def _what_is_changed_is_sent(self) -> Self:
        for name in ("deidentify", "remove", "send_syntaxes"):
            if getattr(self, name) and not self.takes_deliveries:
                raise ValueError(f"{name} is about what is sent: it needs a way to be sent to")
        asks = sorted(set(self.may or ()) - {"store"})
        if self.deidentify and asks:
            raise ValueError(
                f"deidentify: it must not know whose the images are, so it may not {asks[0]}"
            )
        return self

    @model_validator(mode="after")
    def _who_is_sent_notes_knows_our_instances(self) -> Self:
        if self.rejection_notes and not self.takes_deliveries:
            raise ValueError("rejection_notes are sent: it needs a way to be sent to")
        if self.rejection_notes and self.deidentify:
            raise ValueError("rejection_notes name UIDs that with deidentify it does not know")
        return self

    @model_validator(mode="after")
    def _one_way_to_it(self) -> Self:
        if len(self._ways) > 1:
            raise ValueError(f"it is sent to in one way: write one of {', '.join(self._ways)}")
        if self.address is not None or not self._ways:
            return self
        if self.prove == "commitment":
            raise ValueError(
                f"with {self._ways[0]} a partner is asked by a query: write prove: find"
            )
        if self.window is not None:
            raise ValueError(f"window is about associations, and of no use with {self._ways[0]}")
        if self.send_syntaxes and _EXPLICIT_VR_LITTLE_ENDIAN not in self.send_syntaxes:
            raise ValueError(
                f"send_syntaxes: with {self._ways[0]} {_EXPLICIT_VR_LITTLE_ENDIAN} has to be among"
                " them"
            )
        return self

    @model_validator(mode="after")
    def _tls_is_to_an_address(self) -> Self:
        if self.tls and self.address is None:
            raise ValueError("tls is how we call a partner: it needs an address")
        secure = self.tls or (self.dicomweb or "").startswith("https:")
        if self.tls_name is not None and not secure:
            raise ValueError("tls_name is of no use without tls: true, or https")
        return self

    @field_validator("remove")
    @classmethod
    def _known_attributes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if names:
            # As below: the dictionary takes long.
            from gantry_domain.removal import parse_removal

            parse_removal(names)
        return names

    @field_validator("transfer_syntaxes", "send_syntaxes")
    @classmethod
    def _known_syntaxes(cls, uids: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if uids == ():
            raise ValueError("an empty list accepts nothing; leave the key out to accept all")
        if uids:
            # The table comes with all of pydicom, which supervisors and commands do without.
            from gantry_domain.transfer_syntaxes import TRANSFER_SYNTAXES

            for uid in uids:
                if uid not in TRANSFER_SYNTAXES:
                    raise ValueError(f"{uid} is no transfer syntax that can be stored")
        return uids

    @field_validator("send_syntaxes")
    @classmethod
    def _one_for_everything(cls, uids: tuple[str, ...]) -> tuple[str, ...]:
        if uids and not {_EXPLICIT_VR_LITTLE_ENDIAN, _IMPLICIT_VR_LITTLE_ENDIAN} & set(uids):
            raise ValueError(
                f"one of them has to be {_EXPLICIT_VR_LITTLE_ENDIAN} or "
                f"{_IMPLICIT_VR_LITTLE_ENDIAN}, which everything can be converted to"
            )
        return uids

    @field_validator("hosts")
    @classmethod
    def _some_host(cls, hosts: tuple[Network, ...] | None) -> tuple[Network, ...] | None:
        if hosts == ():
            raise ValueError("an empty list admits nobody; leave the key out to admit any host")
        return hosts


class UnknownPartners(Section):
    """What callers may do whose AE title is not among the partners."""

    store: Literal["accept", "refuse"] = "accept"
    query: Literal["accept", "refuse"] | None = None
    """None: accept where only this machine can call."""
    worklist: Literal["accept", "refuse"] | None = None
    """The worklist and MPPS; None: likewise."""
