"""Files of orders as records: CSV or JSON, as a spreadsheet or another program writes them."""

import csv
import io
from collections.abc import Iterator

import orjson

from gantry_domain.errors import PermanentError


class NoTable(PermanentError):
    """A file that holds no records. The text says where, and nothing of what it holds."""


def read_records(content: bytes) -> list[dict[str, str]]:
    """The records, each with its values by keyword. Raises `NoTable`.

    JSON is a list of objects, or one; values are text, numbers, or lists of them. Else it is CSV:
    the first line has the keywords, columns are divided by commas or semicolons.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NoTable("it is no text in UTF-8") from error
    return list(_of_json(text) if text.lstrip().startswith(("[", "{")) else _of_csv(text))


def _of_json(text: str) -> Iterator[dict[str, str]]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NoTable(f"it is no JSON: line {error.lineno}") from error
    for record in document if isinstance(document, list) else [document]:
        if not isinstance(record, dict):
            raise NoTable("write a list of objects, each an order")
        yield {keyword: _text(value) for keyword, value in record.items()}


def _text(value: object) -> str:
    if isinstance(value, list):
        return "\\".join(map(_text, value))
    return "" if value is None else str(value)


def _of_csv(text: str) -> Iterator[dict[str, str]]:
    head = text.partition("\n")[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for record in reader:
            if None in record or None in record.values():
                raise NoTable(f"line {reader.line_num} has not as many columns as the first")
            yield {keyword.strip(): value for keyword, value in record.items()}
    except csv.Error as error:
        raise NoTable(f"it is no CSV: line {reader.line_num}") from error
