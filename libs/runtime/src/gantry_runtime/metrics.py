"""The registry of metrics: each is declared once, at import, in its service's own ``metrics.py``.

A service is several processes. Each child writes its values to mapped files in the folder that its
supervisor names in PROMETHEUS_MULTIPROC_DIR, and the supervisor sums them when it is scraped
(``gantry_runtime.exposition``). Outside of a supervised child the values live in memory.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gantry_runtime.logs import may_identify

GaugeMode = Literal[
    "all",
    "liveall",
    "min",
    "livemin",
    "max",
    "livemax",
    "sum",
    "livesum",
    "mostrecent",
    "livemostrecent",
]

REGISTRY = CollectorRegistry()
"""Holds what this process declared; a supervisor exposes its children's files instead."""

DEFAULT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Seconds, from one fast store to one that is in trouble."""

_NAME = re.compile(r"gantry_[a-z][a-z0-9_]*[a-z0-9]")
_SUFFIXES = ("_total", "_count", "_sum", "_bucket", "_created")


class MetricError(Exception):
    """A metric that is declared twice, misnamed, undocumented, or was never declared."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is known of a metric by its name."""

    name: str
    kind: str
    documentation: str
    labels: tuple[str, ...]


_declared: dict[str, Declaration] = {}


def counter(name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
    """A count that only grows; its name ends in ``_total``."""
    if not name.endswith("_total"):
        raise MetricError(f"{name}: a counter's name ends in _total")
    _declare(name, "counter", documentation, labels)
    return Counter(name, documentation, labels, registry=REGISTRY)


def gauge(
    name: str, documentation: str, labels: Sequence[str] = (), mode: GaugeMode = "livesum"
) -> Gauge:
    """A value that goes up and down; ``mode`` says how the values of processes become one."""
    _declare(name, "gauge", documentation, labels)
    return Gauge(name, documentation, labels, registry=REGISTRY, multiprocess_mode=mode)


def histogram(
    name: str,
    documentation: str,
    labels: Sequence[str] = (),
    buckets: Sequence[float] = DEFAULT_BUCKETS,
) -> Histogram:
    """A distribution; its name ends in its unit, ``_seconds`` or ``_bytes`` for instance."""
    _declare(name, "histogram", documentation, labels)
    return Histogram(name, documentation, labels, registry=REGISTRY, buckets=buckets)


def declared() -> tuple[Declaration, ...]:
    """All metrics that this process declared, by name."""
    return tuple(_declared[name] for name in sorted(_declared))


def sample(name: str, **labels: str) -> float:
    """The present value of one sample, such as ``gantry_x_total`` or ``gantry_y_seconds_count``.

    Zero where it has not moved yet.

    :raises MetricError: the metric or its labels were never declared.
    """
    declaration = _declared.get(name)
    if declaration is None:
        stem = next((name.removesuffix(s) for s in _SUFFIXES if name.endswith(s)), name)
        declaration = _declared.get(stem)
    if declaration is None:
        raise MetricError(f"{name} is not a declared metric")
    if set(labels) - {"le"} != set(declaration.labels):
        raise MetricError(f"{name} has the labels {declaration.labels}, not {tuple(labels)}")
    return REGISTRY.get_sample_value(name, labels) or 0.0


def _declare(name: str, kind: str, documentation: str, labels: Sequence[str]) -> None:
    if not _NAME.fullmatch(name):
        raise MetricError(f"{name}: a metric's name begins with gantry_ and is in snake_case")
    if kind != "counter" and name.endswith(_SUFFIXES):
        raise MetricError(f"{name}: this ending belongs to another kind of metric")
    if not documentation.strip():
        raise MetricError(f"{name}: say what the metric means")
    for label in labels:
        if may_identify(label) or label.lower().endswith("uid"):
            raise MetricError(f"{name}: the label {label} could hold patient data or an UID")
    if name in _declared:
        raise MetricError(f"{name} is declared twice")
    _declared[name] = Declaration(name, kind, documentation, tuple(labels))
