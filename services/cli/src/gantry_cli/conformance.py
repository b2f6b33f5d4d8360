"""`gantry conformance`: our statement written out, peers probed, statements compared."""

from pathlib import Path

import click

from gantry_domain.conformance.forms import rendered
from gantry_domain.errors import ConfigurationError
from gantry_query.own_web import whole_statement
from gantry_runtime.settings import Settings


def show_statement(settings: Settings, *, form: str, outline: str, output: str | None) -> int:
    """Write our statement to a file or to standard output."""
    written(rendered(whole_statement(settings), form=form, outline=outline), output)
    return 0


def written(text: str, output: str | None) -> None:
    """Put a text where it is wanted. Raises `ConfigurationError`."""
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{output}: cannot be written: {error.strerror}") from error
