"""A comparison as a document, and as CSV for a spreadsheet."""

import csv
from io import StringIO

from gantry_domain.conformance.compatibility import Comparison
from gantry_domain.conformance.document import Block, Heading, Paragraph, Table
from gantry_domain.conformance.html import to_html
from gantry_domain.conformance.markdown import to_markdown
from gantry_domain.conformance.registry import syntax_name

_COLUMNS = ("Service", "SOP class", "UID", "SCU", "SCP", "Verdict", "Reason", "What to change")
# A spreadsheet takes what begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t")


def rendered_comparison(comparison: Comparison, *, form: str) -> str:
    """The comparison as `markdown`, `html` or `csv`."""
    if form == "csv":
        return _csv(comparison)
    blocks = _document(comparison)
    if form == "html":
        return to_html(blocks, title="DICOM conformance comparison")
    return to_markdown(blocks)


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


def _document(comparison: Comparison) -> list[Block]:
    blocks: list[Block] = [
        Heading(1, "DICOM conformance comparison"),
        Paragraph(comparison.summary),
        Heading(2, "SOP classes"),
        Table("SOP classes, from who asks to who answers", _COLUMNS, _rows(comparison)),
    ]
    if comparison.keys:
        rows = tuple(
            (
                f"({each.tag[:4]},{each.tag[4:]})",
                each.keyword,
                each.user,
                each.provider,
                each.verdict.value,
                each.reason,
            )
            for each in comparison.keys
        )
        headings = ("Tag", "Keyword", "Asked by", "Answered by", "Verdict", "Reason")
        blocks += [Heading(2, "Query keys"), Table("Query keys", headings, rows)]
    return blocks


def _csv(comparison: Comparison) -> str:
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*_COLUMNS, "Common transfer syntaxes"))
    for row, each in zip(_rows(comparison), comparison.classes, strict=True):
        common = ", ".join(map(syntax_name, each.common))
        writer.writerow([_cell(cell) for cell in (*row, common)])
    return out.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
