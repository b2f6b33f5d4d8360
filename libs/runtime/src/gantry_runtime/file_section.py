"""All that the configuration file says, and what has to hold between its parts."""

from typing import Annotated, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from gantry_domain.errors import ConfigurationError
from gantry_domain.policies.rules import PolicySet
from gantry_domain.routes import Route, check_destinations
from gantry_runtime.auth_section import Auth, expand_kind
from gantry_runtime.commitment_section import Commitment
from gantry_runtime.forwarding import Forward, RouteSection
from gantry_runtime.judging import PolicySection, policy_set
from gantry_runtime.listen_section import Listen
from gantry_runtime.names import did_you_mean
from gantry_runtime.objects import ObjectsOrText
from gantry_runtime.orders_section import HL7, Worklist
from gantry_runtime.partners import Partner, UnknownPartners
from gantry_runtime.quiet_section import CompleteAfter, QuietTime
from gantry_runtime.section import Section
from gantry_runtime.services import Delete, Events, Http, Ingress, Query, Sweep, Worker
from gantry_runtime.storage_classes import check_storage_classes
from gantry_runtime.users import UserIdentitySection
from gantry_runtime.values import (
    AETitle,
    TimeZoneName,
    expand_shorthand,
)
from gantry_runtime.webhook_section import Webhook, check_webhooks


def _without_secret(url: str, variable: str) -> None:
    parts = urlsplit(url)
    if parts.password or any(key.lower() == "password" for key, _ in parse_qsl(parts.query)):
        raise ValueError(f"the password does not belong in the file: put it in {variable}")


class Configuration(Section):
    """The YAML file that GANTRY_CONFIG names."""

    ae_titles: Annotated[tuple[AETitle, ...], Field(min_length=1, strict=False)] = ("GANTRY",)
    timezone: TimeZoneName = "UTC"
    database: str | None = None
    broker: str | None = None
    objects: ObjectsOrText | None = None
    listen: Listen = Listen()
    auth: Annotated[Auth | None, BeforeValidator(expand_kind)] = None
    """Must be written out before HTTP listens beyond loopback, be it `none`."""
    partners: Annotated[tuple[Partner, ...], Field(strict=False)] = ()
    unknown_partners: Annotated[UnknownPartners, BeforeValidator(expand_shorthand)] = (
        UnknownPartners()
    )
    user_identity: UserIdentitySection = UserIdentitySection()
    worker: Worker = Worker()
    ingress: Ingress = Ingress()
    query: Query = Query()
    worklist: Worklist = Worklist()
    hl7: HL7 = HL7()
    sweep: Sweep = Sweep()
    http: Http = Http()
    delete: Delete = Delete()
    events: Events = Events()
    forward: Forward = Forward()
    commitment: Commitment = Commitment()
    routes: Annotated[tuple[RouteSection, ...], Field(strict=False)] = ()
    webhooks: Annotated[tuple[Webhook, ...], Field(strict=False)] = ()
    policies: Annotated[tuple[PolicySection, ...], Field(strict=False)] = ()
    complete_after: QuietTime = CompleteAfter()

    @field_validator("ae_titles")
    @classmethod
    def _distinct(cls, titles: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(titles)) != len(titles):
            raise ValueError("one AE title is listed twice")
        return titles

    @field_validator("partners")
    @classmethod
    def _known_once(cls, partners: tuple[Partner, ...]) -> tuple[Partner, ...]:
        titles = [partner.ae_title for partner in partners]
        for title in titles:
            if titles.count(title) > 1:
                raise ValueError(f"the partner {title} is listed twice")
        return partners

    @field_validator("webhooks")
    @classmethod
    def _webhooks_known_once(cls, webhooks: tuple[Webhook, ...]) -> tuple[Webhook, ...]:
        check_webhooks(webhooks)
        return webhooks

    @field_validator("database")
    @classmethod
    def _database_url(cls, url: str | None) -> str | None:
        if url is not None:
            if urlsplit(url).scheme != "postgresql":
                raise ValueError("write a URL such as postgresql://user@host:5432/database")
            _without_secret(url, "GANTRY_DATABASE_PASSWORD")
        return url

    @field_validator("broker")
    @classmethod
    def _broker_url(cls, url: str | None) -> str | None:
        if url is not None:
            if urlsplit(url).scheme not in {"redis", "rediss", "redis+socket", "sentinel"}:
                raise ValueError("write a URL such as redis://host:6379/0")
            _without_secret(url, "GANTRY_BROKER_PASSWORD")
        return url

    @field_validator("forward")
    @classmethod
    def _delays_that_grow(cls, forward: Forward) -> Forward:
        forward.retry_policy()
        return forward

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> Self:
        names = [route.name for route in self.routes]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the route {name} is listed twice")
        known = [partner.ae_title for partner in self.partners if partner.takes_deliveries]
        try:
            check_destinations(self.route_table, known)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def _quiet_partners_are_known(self) -> Self:
        known = [partner.ae_title for partner in self.partners]
        named = [("partners", title) for title in self.complete_after.partners]
        named += [("committed", title) for title in self.complete_after.committed]
        named += [("counted", title) for title in self.complete_after.counted]
        for key, title in named:
            if title not in known:
                hint = did_you_mean(title, known) if known else ""
                raise ValueError(f"complete_after.{key} names {title}, which is no partner{hint}")
        return self

    @model_validator(mode="after")
    def _classes_can_be_stored(self) -> Self:
        lists = [("ingress.accept_classes", self.ingress.accept_classes)]
        for number, partner in enumerate(self.partners):
            lists.append((f"partners[{number}].accept_classes", partner.accept_classes))
        check_storage_classes(lists, self.ingress.sop_classes)
        return self

    @model_validator(mode="after")
    def _the_worklist_knows_whom_it_calls(self) -> Self:
        known = [partner.ae_title for partner in self.partners if partner.address]
        named = [("performed_to", title) for title in self.worklist.performed_to]
        named += [("polls", poll.ae_title) for poll in self.worklist.polls]
        for key, title in named:
            if title not in known:
                hint = did_you_mean(title, known) if known else ""
                raise ValueError(
                    f"worklist.{key} names {title}, which is no partner with an address{hint}"
                )
            if named.count((key, title)) > 1:
                raise ValueError(f"worklist.{key} names {title} twice")
        return self

    @model_validator(mode="after")
    def _certificates_can_be_shown(self) -> Self:
        for partner in self.partners:
            if partner.certificate and self.listen.tls_ca is None:
                raise ValueError(
                    f"the partner {partner.ae_title} has to show a certificate, but listen.tls_ca "
                    "does not say who signs them"
                )
        return self

    @property
    def policy_set(self) -> PolicySet:
        """The rules in force as values."""
        return policy_set(self.policies)

    @property
    def route_table(self) -> tuple[Route, ...]:
        """The routes as values."""
        return tuple(section.route() for section in self.routes)

    @property
    def subscribers(self) -> tuple[str, ...]:
        """Who is told of events, by name."""
        told = [partner.availability_subscriber for partner in self.partners]
        return (
            *(webhook.subscriber for webhook in self.webhooks),
            *(name for name in told if name is not None),
            *(receiver.subscriber for receiver in self.hl7.receivers),
        )

    @property
    def web_clients_sign_in(self) -> bool:
        """Whether clients of the web door have to say who they are."""
        return self.auth is not None and self.auth.kind != "none"

    @model_validator(mode="after")
    def _open_doors_are_written_out(self) -> Self:
        if not self.listen.loopback and self.auth is None:
            raise ValueError(
                f"listen.address {self.listen.address} lets others reach DICOMweb: say by `auth` "
                "who may use it, or write `auth: none` if the network keeps strangers away"
            )
        if self.auth is not None and self.auth.kind == "proxy" and not self.http.trusted_proxies:
            raise ValueError(
                "auth: the kind proxy needs http.trusted_proxies, which says who it is"
            )
        return self

    @model_validator(mode="after")
    def _strangers_delete_nothing(self) -> Self:
        # Behind a proxy loopback is no loopback.
        alone = self.listen.loopback and not self.http.trusted_proxies and not self.http.public_url
        if self.delete.enabled and not self.web_clients_sign_in and not alone:
            raise ValueError(
                "delete.enabled: whoever reaches DICOMweb could delete: let clients sign in "
                "(`auth`), or listen on loopback alone, without a proxy"
            )
        return self
