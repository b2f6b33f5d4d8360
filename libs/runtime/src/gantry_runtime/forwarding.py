"""What the configuration says of forwarding: routes, and how destinations are treated."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from gantry_domain.day_times import parse_week_span
from gantry_domain.deliveries import RetryPolicy
from gantry_domain.errors import ConfigurationError
from gantry_domain.routes import Route, Trigger
from gantry_runtime.section import Section
from gantry_runtime.values import AETitle, Duration, parse_duration


class Backoff(Section):
    """How long a delivery that failed waits: up to `first`, then twice as long each time."""

    first: Duration = parse_duration("10s")
    longest: Duration = parse_duration("5m")


class ProofSection(Section):
    """How destinations are asked whether they keep what was sent to them (`prove` of a partner)."""

    wait: Duration = parse_duration("5s")
    """How long the association of a request for commitment stays open, for its report."""
    answer_within: Duration = parse_duration("1h")
    """After how long without a report it is asked again; or, of a query, how long it may take until
    what was sent is found, before it is sent again."""
    attempts: Annotated[int, Field(ge=1, le=1000)] = 24
    """How many requests for commitment may stay without a report; then the delivery stays without
    proof."""
    resends: Annotated[int, Field(ge=0, le=100)] = 2
    """How often what it does not keep is sent again."""


class Forward(Section):
    """How deliveries are sent."""

    concurrency: Annotated[int, Field(ge=1, le=64)] = 2
    """Deliveries on their way to one destination at once, over all workers."""
    lease: Duration = parse_duration("30s")
    """After how long another worker goes on with what a dead one was sending."""
    backoff: Backoff = Backoff()
    open_after: Annotated[int, Field(ge=1, le=1000)] = 3
    """How many rounds in a row may find nobody; then nothing is tried there but a C-ECHO, until it
    is answered."""
    give_up_after: Duration = parse_duration("3d")
    """How long a destination may fail before its delivery is dead."""
    late_after: Duration = parse_duration("15m")
    """Deliveries that are open for longer are counted as late."""
    connect_timeout: Duration = parse_duration("10s")
    acse_timeout: Duration = parse_duration("30s")
    dimse_timeout: Duration = parse_duration("60s")
    network_timeout: Duration = parse_duration("60s")
    """How long a destination may take nothing of what is sent."""
    proof: ProofSection = ProofSection()
    tls_ca: str | None = None
    """Who signs the certificates of partners with `tls`, PEM; None: whom this machine trusts."""
    tls_certificate: str | None = None
    """What we show them, with the chain, PEM; None: nothing."""
    tls_key: str | None = None
    """The key, PEM; a password is in GANTRY_TLS_KEY_PASSWORD."""

    @model_validator(mode="after")
    def _certificate_has_a_key(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key need each other")
        return self

    def retry_policy(self) -> RetryPolicy:
        """Raises `ValueError` for a first delay that is longer than the longest."""
        return RetryPolicy(
            base=self.backoff.first,
            ceiling=self.backoff.longest,
            give_up_after=self.give_up_after,
        )


def one_or_more(value: Any) -> Any:
    """A single value stands for a list of one."""
    if isinstance(value, Mapping):
        return {key: [each] if isinstance(each, str) else each for key, each in value.items()}
    return value


class RouteSection(Section):
    """One route: `when` holds, so send to these."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    when: Annotated[
        dict[str, Annotated[tuple[str, ...], Field(strict=False)]], BeforeValidator(one_or_more)
    ] = Field(default_factory=dict)
    send_to: Annotated[tuple[AETitle, ...], Field(strict=False)]
    trigger: Literal["complete", "series", "instance"] = "complete"
    """What it takes: a complete study, a series that is quiet, or an instance as it comes."""
    during: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Times of the week, such as Mon-Fri 08:00-18:00, in `timezone`, at which it is asked; empty:
    at any. What came at other times it does not take."""
    priority: Annotated[int, Field(ge=0, le=9)] = 0
    """What is higher goes first, over all studies to a destination."""
    priors: Annotated[int, Field(ge=0, le=100)] = 0
    """So many earlier studies of the same patient go along."""

    @field_validator("during")
    @classmethod
    def _times_of_the_week(cls, spans: tuple[str, ...]) -> tuple[str, ...]:
        for each in spans:
            parse_week_span(each)
        return spans

    def route(self) -> Route:
        """The route as a value. Raises `ValueError` for conditions that mean nothing."""
        try:
            return Route(
                name=self.name,
                when=self.when,
                send_to=self.send_to,
                trigger=Trigger(self.trigger),
                priority=self.priority,
                priors=self.priors,
                during=tuple(map(parse_week_span, self.during)),
            )
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
