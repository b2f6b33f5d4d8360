"""A comparison as a document, and as CSV for a spreadsheet."""

import csv
from io import StringIO

from gantry_domain.conformance.compatibility import Comparison
from gantry_domain.conformance.document import Block, Heading, Paragraph, Table
from gantry_domain.conformance.html import to_html
from gantry_domain.conformance.markdown import to_markdown
from gantry_domain.conformance.registry import syntax_name

_COLUMNS = ("Service", "SOP class", "UID", "SCU", "SCP", "Verdict", "Reason", "What to change")
_OF_KEYS = ("Service", "Tag", "Keyword", "Asked by", "Answered by", "Verdict", "Reason")
_COMMON = "Common transfer syntaxes"
# A spreadsheet takes what begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t")


def rendered_comparison(comparison: Comparison, *, form: str) -> str:
    """The comparison as `markdown`, `html` or `csv`."""
    if form == "csv":
        return _csv(comparison)
    blocks: list[Block] = [
        Heading(1, "DICOM conformance comparison"),
        Paragraph(comparison.summary),
        Heading(2, "SOP classes"),
        Table("SOP classes, from who asks to who answers", _COLUMNS, _rows(comparison)),
    ]
    if comparison.keys:
        blocks += [Heading(2, "Query keys"), _keys(comparison)]
    if form == "html":
        return to_html(blocks, title="DICOM conformance comparison")
    return to_markdown(blocks)


def comparison_sheets(comparison: Comparison) -> list[Table]:
    """The comparison as the sheets of a workbook: classes, keys if there are any."""
    found = [_whole(comparison)]
    return [*found, _keys(comparison)] if comparison.keys else found


def _whole(comparison: Comparison) -> Table:
    """The classes with the transfer syntaxes that both have, for which a page is too narrow."""
    rows = zip(_rows(comparison), comparison.classes, strict=True)
    common = tuple((*row, ", ".join(map(syntax_name, each.common))) for row, each in rows)
    return Table("SOP classes", (*_COLUMNS, _COMMON), common)


def _rows(comparison: Comparison) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            each.service.value,
            each.name,
            each.uid,
            each.user,
            each.provider,
            each.verdict.value,
            each.reason,
            each.change,
        )
        for each in comparison.classes
    )


def _keys(comparison: Comparison) -> Table:
    rows = tuple(
        (
            each.service,
            f"({each.tag[:4]},{each.tag[4:]})",
            each.keyword,
            each.user,
            each.provider,
            each.verdict.value,
            each.reason,
        )
        for each in comparison.keys
    )
    return Table("Query keys", _OF_KEYS, rows)


def _csv(comparison: Comparison) -> str:
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    table = _whole(comparison)
    writer.writerow(table.headings)
    writer.writerows([_cell(cell) for cell in row] for row in table.rows)
    return out.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
