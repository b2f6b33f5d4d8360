"""The metrics of receipts, alike for every service that publishes them."""

from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from gantry_runtime.metrics import counter, gauge


@dataclass(frozen=True, slots=True)
class ReceiptMetrics:
    """What becomes of receipts."""

    published: Counter
    dropped: Counter
    waiting: Gauge


def receipt_metrics(service: str) -> ReceiptMetrics:
    """Declares the metrics; called once, by the service's own `metrics` module."""
    prefix = f"gantry_{service}_receipts"
    return ReceiptMetrics(
        published=counter(f"{prefix}_published_total", "Receipts that the broker took"),
        dropped=counter(
            f"{prefix}_dropped_total",
            "Receipts given up because the broker was away for too long; the sweep finds their"
            " objects",
        ),
        waiting=gauge(f"{prefix}_waiting", "Receipts that wait for the broker"),
    )
