"""A document as one HTML page that needs nothing else, and prints on A4 with its page numbers."""

import re
from html import escape

from gantry_domain.conformance.document import Block, Document, Heading, Paragraph, Picture, Table

_CODE = re.compile(r"[\d.]{5,}|\([0-9A-F]{4},[0-9A-F]{4}\)")

_WIDEST_WORD = 30
_FEW_ROWS = 15
_STYLE = """
@page { size: A4; margin: 18mm 15mm 18mm 15mm;
  @bottom-right { content: counter(page) " / " counter(pages); font: 8pt sans-serif; } }
body { font: 10pt/1.4 "DejaVu Sans", "Noto Sans", Arial, sans-serif; color: #1a1a1a;
  max-width: 180mm; margin: 8mm auto; padding: 0 4mm; }
h1 { font-size: 20pt; margin: 0 0 6mm; border-bottom: 2pt solid #24506e; padding-bottom: 2mm; }
h2 { font-size: 14pt; color: #24506e; margin: 9mm 0 2mm; }
h3 { font-size: 11.5pt; margin: 6mm 0 1.5mm; }
h4 { font-size: 10pt; margin: 4mm 0 1mm; }
h1, h2, h3, h4, caption { break-after: avoid; }
p { margin: 1.5mm 0; }
table { border-collapse: collapse; width: 100%; margin: 3mm 0 5mm; font-size: 8.5pt; }
caption { text-align: left; font-weight: bold; padding: 1mm 0; }
th, td { border: 0.4pt solid #9aa7b0; padding: 0.8mm 1.5mm; text-align: left;
  vertical-align: top; overflow-wrap: break-word; }
th { background: #e8eef2; }
thead { display: table-header-group; }
td.long { overflow-wrap: anywhere; min-width: 35mm; }
td.code { white-space: nowrap; font-size: 8pt; }
tr, table.short { break-inside: avoid; }
tbody tr:first-child { break-before: avoid; }
figure { margin: 4mm 0; break-inside: avoid; }
svg { max-width: 100%; height: auto; }
@media print { body { max-width: none; margin: 0; padding: 0; } }
"""


def to_html(document: Document, *, title: str) -> str:
    """The page."""
    body = "\n".join(_rendered(block) for block in document)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _cell(text: str) -> str:
    # UIDs and tags are read in one piece; paths may be wider than the paper.
    kind = ""
    if _CODE.fullmatch(text):
        kind = ' class="code"'
    elif any(len(word) > _WIDEST_WORD for word in text.split()):
        kind = ' class="long"'
    return f"<td{kind}>{escape(text)}</td>"


def _rendered(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{escape(text)}</p>"
        case Picture(svg, words):
            return f"<figure>{svg}<figcaption>{escape(words)}</figcaption></figure>"
        case Table(caption, headings, rows):
            head = "".join(f"<th>{escape(each)}</th>" for each in headings)
            body = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
            short = ' class="short"' if len(rows) <= _FEW_ROWS else ""
            return (
                f"<table{short}><caption>{escape(caption)}</caption>\n"
                f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
            )
