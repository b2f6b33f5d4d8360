"""`gantry conformance lint` and `compare`: statements of others, read from files."""

from dataclasses import replace
from pathlib import Path

import click

from gantry_cli.conformance import written
from gantry_cli.office_documents import UnreadableDocument, office_rows, workbook_of
from gantry_domain.conformance.compared_rows import compared_statements
from gantry_domain.conformance.comparison_form import comparison_sheets, rendered_comparison
from gantry_domain.conformance.compatibility import compare
from gantry_domain.conformance.lint import lint
from gantry_domain.conformance.model import Statement
from gantry_domain.conformance.reading import Reading, read_rows, read_statement
from gantry_domain.errors import ConfigurationError
from gantry_query.own_web import whole_statement
from gantry_runtime.settings import load_settings

OWN = "own"
_LARGEST = 64 * 2**20
_FOUND_SOMETHING = 1


def show_findings(place: str) -> int:
    """Lint a statement: 0 where nothing is wrong, else 1."""
    reading = _reading(place)
    supports = tuple(reading.statement.supports())
    for unread in reading.statement.unread:
        click.echo(f"line {unread.line}: not read ({unread.why}): {unread.text}")
    findings = lint(reading)
    for finding in findings:
        where = f"line {finding.line}" if finding.line else "the whole"
        click.echo(f"{where}: {finding.rule}: {finding.text}")
    click.echo(
        f"{len(supports)} entries read, {len(reading.statement.unread)} lines not read, "
        f"{len(findings)} findings"
    )
    return _FOUND_SOMETHING if findings or reading.statement.unread else 0


def show_comparison(
    modality: str, pacs: str, ris: str | None, *, form: str, output: str | None
) -> int:
    """Compare and write it; its summary goes to standard error where the rest goes to a file."""
    comparison = compare(
        _statement(modality), _statement(pacs), None if ris is None else _statement(ris)
    )
    if form == "xlsx":
        if output is None:
            raise ConfigurationError("a workbook is no text: name a file by --output")
        sheets = comparison_sheets(comparison)
        written(workbook_of(sheets, summary=comparison.summary), output)
    else:
        written(rendered_comparison(comparison, form=form), output)
    if output is not None:
        click.echo(comparison.summary, err=True)
    return 0


def _statement(place: str) -> Statement:
    """The statement of an argument of `compare`: NAME=FILE is called NAME in it."""
    name, _, file = place.partition("=")
    if file and "/" not in name and not Path(place).exists():
        return replace(_statement(file), product=name)
    if place == OWN:
        return whole_statement(load_settings())
    file, _, column = place.partition("#")
    reading = _reading(file)
    if not column:
        return reading.statement
    columns = compared_statements(reading.compared)
    if column not in columns:
        known = ", ".join(columns) or "no comparison"
        raise ConfigurationError(f"{file} has no column {column} (it has {known})")
    return columns[column]


def _reading(place: str) -> Reading:
    if place == OWN:
        return Reading(whole_statement(load_settings()))
    path = Path(place)
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigurationError(f"{place}: cannot be read: {error.strerror}") from error
    if len(content) > _LARGEST:
        raise ConfigurationError(f"{place}: is larger than {_LARGEST} bytes")
    try:
        rows = office_rows(content)
    except UnreadableDocument as error:
        raise ConfigurationError(f"{place}: {error}") from error
    if rows is None:
        reading = read_statement(content, name=path.stem)
    else:
        reading = read_rows(rows, name=path.stem)
    if not any(reading.statement.supports()):
        raise ConfigurationError(f"{place}: no SOP class was found in it")
    return reading
