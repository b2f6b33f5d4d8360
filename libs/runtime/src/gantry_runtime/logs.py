"""Structured logs: one JSON object per line on stderr, and nothing in them that names a patient.

A key that could hold patient data is refused: it raises while no service is attached (in tests).
In a service its value is replaced, for a log line must never be what fails an image. Exceptions are
logged by type and place. Their text is kept only where it is ours (GantryError) or the operating
system's, for the text of others quotes what they choked on.
"""

import logging
import sys
import traceback
from collections.abc import Callable, MutableMapping
from types import TracebackType
from typing import Any

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from gantry_domain.errors import GantryError

WITHHELD = "(withheld)"

# Identifying attributes (PS3.15 annex E) as people would spell them for a log key; all that begins
# with "patient" is refused besides.
_FORBIDDEN = frozenset(
    {
        "accession",
        "accessionnumber",
        "age",
        "birthdate",
        "birthday",
        "dataset",
        "ds",
        "header",
        "hkid",
        "identifier",
        "mrn",
        "occupation",
        "operatorsname",
        "othernames",
        "otherpatientids",
        "performingphysicianname",
        "personname",
        "physician",
        "referringphysicianname",
        "requestingphysician",
        "sex",
        "telephone",
    }
)

# Libraries whose messages quote the values that they choke on: only the place is logged.
_WITHHELD_LIBRARIES = (
    "pydicom",
    "pynetdicom",
    "py.warnings",
    "celery.app.trace",
    "multiprocessing",  # billiard's
    "sqlalchemy",
)


class PatientDataInLog(Exception):
    """A log key or metric label could hold patient data."""


def may_identify(key: str) -> bool:
    """Whether a log key or metric label of this name could hold patient data."""
    plain = key.replace("_", "").replace("-", "").lower()
    return plain.startswith("patient") or plain in _FORBIDDEN


def get_logger(name: str) -> FilteringBoundLogger:
    """The logger of a module: ``log.info("event_name", key=value)``."""
    logger: FilteringBoundLogger = structlog.get_logger(module=name)
    return logger


def configure_logs(service: str, *, process: str = "") -> None:
    """Send this process's logs, and its libraries' warnings, to stderr as JSON lines."""
    _configure(_identity(service, process), _withhold)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LibraryFormatter(_identity(service, process)))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def _configure(identity: dict[str, str], guard: Callable[..., EventDict]) -> None:
    structlog.configure(
        processors=[
            _stamp(identity),
            guard,
            structlog.processors.add_log_level,
            _exception,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(sort_keys=False, default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # Looked up for each line, for pytest replaces sys.stderr from test to test.
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _identity(service: str, process: str) -> dict[str, str]:
    return {"service": service} | ({"process": process} if process else {})


def _stamp(identity: dict[str, str]) -> Callable[..., EventDict]:
    def stamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {**identity, **event}

    return stamp


def _refuse(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key in event:
        if may_identify(key):
            raise PatientDataInLog(f"the log key {key!r} could hold patient data")
    return event


def _withhold(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {key: WITHHELD if may_identify(key) else value for key, value in event.items()}


def _exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    info = event.pop("exc_info", None)
    if info:
        error = info if isinstance(info, BaseException) else sys.exc_info()[1]
        if isinstance(info, tuple):
            error = info[1]
        if error is not None:
            event["error"] = describe_exception(error)
    return event


def describe_exception(error: BaseException) -> dict[str, Any]:
    """An exception as JSON: type, place, cause, and its text where that is known to be harmless."""
    told: dict[str, Any] = {"type": f"{type(error).__module__}.{type(error).__qualname__}"}
    if isinstance(error, GantryError):
        told["message"] = str(error)
    elif isinstance(error, OSError) and error.strerror:
        told["message"] = error.strerror
    told["where"] = _frames(error.__traceback__)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        told["cause"] = describe_exception(cause)
    return told


def _frames(tb: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(tb)[-12:]
    return [f"{_module_path(f.filename)}:{f.lineno} {f.name}" for f in frames]


def _module_path(filename: str) -> str:
    for marker in ("site-packages/", "/src/"):
        _, found, tail = filename.rpartition(marker)
        if found:
            return tail
    return filename


class _LibraryFormatter(logging.Formatter):
    """Renders a record of the standard library's logging like our own lines."""

    def __init__(self, identity: dict[str, str]) -> None:
        super().__init__()
        self._identity = identity
        self._render = structlog.processors.JSONRenderer(default=str)
        self._time = structlog.processors.TimeStamper(fmt="iso", utc=True)

    def format(self, record: logging.LogRecord) -> str:
        line: MutableMapping[str, Any] = {
            **self._identity,
            "event": "library_message",
            "logger": record.name,
            "level": record.levelname.lower(),
            "at": f"{_module_path(record.pathname)}:{record.lineno}",
        }
        if not record.name.startswith(_WITHHELD_LIBRARIES):
            line["message"] = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = describe_exception(record.exc_info[1])
        line = self._time(None, "", line)
        return str(self._render(None, "", line))


_configure({}, _refuse)
