"""`gantry conformance`: our statement written out, peers probed, statements compared."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import click

from gantry_archive.checking import Port, check
from gantry_archive.destinations import destination_timeouts
from gantry_archive.outgoing_tls import tls_to
from gantry_archive.probing import Called, probe, proposed_classes
from gantry_domain.conformance.forms import rendered
from gantry_domain.errors import ConfigurationError, PermanentError, TransientError
from gantry_query.own_web import whole_statement
from gantry_runtime.listen_section import reachable
from gantry_runtime.settings import Settings
from gantry_runtime.values import check_ae_title, split_host_and_port


class Differs(PermanentError):
    """What runs is not what is stated."""


class NotProbed(TransientError):
    """The peer ended the probe before its end."""


def show_statement(settings: Settings, *, form: str, outline: str, output: str | None) -> int:
    """Write our statement to a file or to standard output."""
    written(rendered(whole_statement(settings), form=form, outline=outline), output)
    return 0


def written(content: str | bytes, output: str | None) -> None:
    """Put a text, or a file, where it is wanted. Raises `ConfigurationError`."""
    if output is None:
        click.echo(content, nl=False)
        return
    try:
        Path(output).write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise ConfigurationError(f"{output}: cannot be written: {error.strerror}") from error


def probe_peer(
    settings: Settings,
    address: str,
    *,
    called: str,
    calling: str | None,
    tls: bool,
    pause: float,
    form: str,
    output: str | None,
) -> int:
    """Probe a peer and write its statement; what it ended early is written too, and said."""
    try:
        host, port = split_host_and_port(address)
        called_ae, calling_ae = check_ae_title(called), check_ae_title(calling or _ours(settings))
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    peer = Called(
        host=host,
        port=port,
        called_ae=called_ae,
        calling_ae=calling_ae,
        timeouts=destination_timeouts(settings),
        tls=tls_to(settings) if tls else None,
    )
    classes = proposed_classes(settings.ingress.sop_classes)
    probed = probe(peer, name=called_ae, classes=classes, pause=pause)
    (entity,) = probed.statement.entities
    known = replace(entity, ae_titles=(called_ae,), addresses=(address,))
    statement = replace(probed.statement, entities=(known,))
    accepted = sum(each.supported for each in statement.supports())
    if accepted or probed.stopped is None:
        written(rendered(statement, form=form), output)
    click.echo(f"{probed.associations} associations, {accepted} SOP classes accepted", err=True)
    if probed.stopped is not None:
        raise NotProbed(f"{called_ae}@{address}: {probed.stopped}") from probed.stopped
    return 0


def check_ourselves(settings: Settings, *, classes: Iterable[str] | None = None) -> int:
    """Hold the running Gantry against its statement. Raises `Differs`.

    `classes` are those that are looked at; None: all.
    """
    if settings.listen.proxies:
        raise ConfigurationError("with listen.proxies the front door takes no calls but theirs")
    host = reachable(settings.listen.address)
    timeouts = destination_timeouts(settings)

    def caller(port: Port, calling_ae: str) -> Called:
        return Called(
            host=host,
            port=port.number,
            called_ae=_ours(settings),
            calling_ae=calling_ae,
            timeouts=timeouts,
            tls=tls_to(settings) if port.tls else None,
        )

    number = 0
    for checked in check(settings, whole_statement(settings), caller=caller, classes=classes):
        found = len(checked.differences)
        number += found
        port = f"port {checked.port.number}{', TLS' if checked.port.tls else ''}"
        rejected = checked.rejected
        how = "" if rejected is None else f": rejected {'/'.join(map(str, rejected[:3]))} as stated"
        click.echo(
            f"{checked.port.name} ({port}) as {checked.calling_ae}: {checked.associations} "
            f"association{'s'[: checked.associations != 1]}, "
            f"{found or 'no'} difference{'s'[: found != 1]}{how}"
        )
        for difference in checked.differences:
            click.echo(f"  {difference}")
    if number:
        raise Differs("Gantry differs from its own conformance statement")
    click.echo("Gantry does what its conformance statement says")
    return 0


def _ours(settings: Settings) -> str:
    return settings.ae_titles[0]
