"""The commands of `gantry conformance`; each imports what it needs when it runs, as in `main`."""

import click

from gantry_runtime.settings import load_settings


@click.group()
def conformance() -> None:
    """Statements of what DICOM systems support: ours, and what others say or do."""


_FORMATS = click.Choice(["markdown", "html", "json"])
_output = click.option(
    "--output", type=click.Path(dir_okay=False), help="The file to write; else standard output."
)


@conformance.command("statement")
@click.option("--format", "form", type=_FORMATS, default="markdown", show_default=True)
@click.option(
    "--outline",
    type=click.Choice(["a", "n"]),
    default="n",
    show_default=True,
    help="The annex of PS3.2: N since 2023, A before.",
)
@_output
def conformance_statement(*, form: str, outline: str, output: str | None) -> int:
    """Show our own conformance statement, with the configuration in force."""
    from gantry_cli.conformance import show_statement

    return show_statement(load_settings(), form=form, outline=outline, output=output)


@conformance.command("probe")
@click.argument("address", metavar="HOST:PORT")
@click.option("--called", required=True, metavar="AE", help="The AE title of the peer.")
@click.option("--calling", metavar="AE", help="Ours; else the first of the configuration.")
@click.option("--tls", is_flag=True, help="Call it over TLS, with the files of `forward`.")
@click.option(
    "--pause",
    default=0.2,
    type=click.FloatRange(0, 60),
    show_default=True,
    help="Seconds between two associations.",
)
@click.option("--format", "form", type=_FORMATS, default="json", show_default=True)
@_output
def conformance_probe(
    *,
    address: str,
    called: str,
    calling: str | None,
    tls: bool,
    pause: float,
    form: str,
    output: str | None,
) -> int:
    """Learn what a peer accepts, by proposing it; nothing is sent to it."""
    from gantry_cli.conformance import probe_peer

    settings = load_settings()
    return probe_peer(
        settings,
        address,
        called=called,
        calling=calling,
        tls=tls,
        pause=pause,
        form=form,
        output=output,
    )


@conformance.command("check")
def conformance_check() -> int:
    """Probe the running Gantry, and show where it differs from its own statement."""
    from gantry_cli.conformance import check_ourselves

    return check_ourselves(load_settings())


@conformance.command("lint")
@click.argument("statement")
def conformance_lint(*, statement: str) -> int:
    """Show what is wrong with a statement by itself, and what of it could not be read."""
    from gantry_cli.conformance_files import show_findings

    return show_findings(statement)


@conformance.command("compare")
@click.argument("modality")
@click.argument("pacs")
@click.option("--ris", help="Who has the worklist and takes the steps.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["markdown", "html", "csv", "xlsx"]),
    default="markdown",
    show_default=True,
)
@_output
def conformance_compare(
    *, modality: str, pacs: str, ris: str | None, form: str, output: str | None
) -> int:
    """Compare what a modality needs with what a PACS, and a RIS, provide.

    Each is a file (our JSON, XLSX, PDF, CSV, Markdown, HTML, text), FILE#NAME for a column of a
    comparison within a document, or the word own for this Gantry. NAME=FILE is called NAME.
    """
    from gantry_cli.conformance_files import show_comparison

    return show_comparison(modality, pacs, ris, form=form, output=output)
