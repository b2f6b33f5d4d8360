"""The forms of a statement by their names: Markdown and HTML in either outline, JSON."""

from gantry_domain.conformance.annex_a import annex_a
from gantry_domain.conformance.annex_n import annex_n
from gantry_domain.conformance.html import to_html
from gantry_domain.conformance.json_form import to_json
from gantry_domain.conformance.markdown import to_markdown
from gantry_domain.conformance.model import Statement

OUTLINES = {"a": annex_a, "n": annex_n}
FORMS = ("markdown", "html", "json")


def rendered(statement: Statement, *, form: str, outline: str = "n") -> str:
    """The statement as text. JSON has no outline."""
    if form == "json":
        return to_json(statement).decode()
    blocks = OUTLINES[outline](statement)
    if form == "html":
        return to_html(blocks, title=f"{statement.product}: DICOM Conformance Statement")
    return to_markdown(blocks)
