"""What the configuration says of the services: processes, limits, patience."""

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field

from gantry_runtime.section import Section
from gantry_runtime.storage_classes import StorageClasses
from gantry_runtime.values import (
    Duration,
    HostAndPort,
    LargestPDU,
    MinimumRate,
    Network,
    Size,
    UniqueIdentifier,
    WebAddress,
    WebOrigin,
    parse_duration,
)


class Worker(Section):
    """The worker's processes and how many instances one transaction takes."""

    processes: Annotated[int, Field(ge=1, le=64)] = 2
    batch: Annotated[int, Field(ge=1, le=1000)] = 100


def _at_most_five_minutes(value: timedelta) -> timedelta:
    # No sender waits longer, and the sweep counts on the end of a reception.
    if value > timedelta(minutes=5):
        raise ValueError("at most 5m")
    return value


class DimseDoor(Section):
    """The limits of a DIMSE port."""

    processes: Annotated[int, Field(ge=1, le=64)] = 2
    max_associations: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Over all processes together."""
    max_associations_per_ae: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Of one calling AE title, where its partner says nothing else; None: no limit of its own."""
    max_associations_per_host: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """From one address, under whatever titles; None: no limit."""
    cluster_limits: bool | None = None
    """Whether the limits of callers hold over all machines, counted in the broker, or on each
    alone; None: where a broker is configured, for then there may be more than one."""
    acse_timeout: Duration = parse_duration("30s")
    dimse_timeout: Duration = parse_duration("60s")
    network_timeout: Duration = parse_duration("5m")
    send_timeout: Duration = parse_duration("30s")
    """How long a peer may take nothing of what is sent to it."""
    minimum_rate: MinimumRate = 2**10
    """Bytes of a data set a second, over a minute of waiting for the peer; 0: any."""
    max_pdu: LargestPDU = 128 * 2**10
    """The largest PDU that peers are told they may send; 0: unlimited."""
    max_pdu_sent: Annotated[int, Field(ge=4096, le=16 * 2**20)] = 128 * 2**10
    """Bytes: no longer PDU is sent, whatever the peer announces."""


class FrontDoor(Section):
    """Where the front door passes on what is not for itself."""

    query: HostAndPort | None = None
    """The port of queries, as host:port; None: that of this machine."""
    worklist: HostAndPort | None = None
    """The port of the worklist, likewise."""


class Ingress(DimseDoor):
    """The DIMSE front door."""

    max_object_size: Size = 16 * 2**30
    store_patience: Annotated[Duration, AfterValidator(_at_most_five_minutes)] = parse_duration(
        "20s"
    )
    """How long a C-STORE waits for a store that is away before it is answered with A700."""
    memory_watermark: Size = 2**30
    """Resident bytes of one process above which new associations are turned away (2/3/1)."""
    free_space_watermark: Size | None = None
    """Free bytes of a folder as object store below which they are; None: not looked at."""
    front_door: FrontDoor = FrontDoor()
    sop_classes: Annotated[tuple[UniqueIdentifier, ...], Field(strict=False)] = ()
    """Private storage classes that are taken too, besides those that are known."""
    accept_classes: StorageClasses | None = None
    """Storage classes by UID: those alone are taken, here and by STOW-RS; None: all of them."""


class Query(DimseDoor):
    """The DIMSE port of query and retrieve."""

    max_matches: Annotated[int, Field(ge=1)] | None = None
    """At most so many matches of one C-FIND are returned, then A700; None: all."""
    retrievals: Annotated[int, Field(ge=1, le=256)] = 8
    """C-MOVE and C-GET that one process serves at a time; others wait for their turn."""


class Sweep(Section):
    """How the worker finds objects whose receipt was lost."""

    after: Duration = parse_duration("60s")
    """Only objects older than this are taken."""
    every: Duration = parse_duration("15s")
    limit: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """At most so many objects in one run."""


class Delete(Section):
    """Whether web clients may delete, and how long that can be taken back."""

    enabled: bool = False
    """Clients that sign in need the right to `delete` besides."""
    purge_after: Duration = parse_duration("7d")


class Events(Section):
    """The feed of what happens to studies."""

    keep: Duration = parse_duration("30d")
    """How long a reader may be away and miss nothing."""


class Http(Section):
    """The web door: DICOMweb."""

    processes: Annotated[int, Field(ge=1, le=64)] = 2
    public_url: WebAddress | None = None
    """The address by which clients reach us, without `/dicomweb`; None: what their requests say."""
    trusted_proxies: Annotated[tuple[Network, ...], Field(strict=False)] = ()
    """Callers whose `Forwarded` and `X-Forwarded-*` headers are believed."""
    origins: Annotated[tuple[WebOrigin, ...], Field(strict=False)] = ()
    """Web pages of other origins that may read answers; `*` is any."""
    receive_timeout: Duration = parse_duration("60s")
    """How long a client that stores may send nothing."""
    spool: str | None = None
    """The folder where bulk data wait for what follows them; None: that of `gantry up`, or the
    system's for temporary files."""
