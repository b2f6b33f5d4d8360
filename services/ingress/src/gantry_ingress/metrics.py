"""The metrics of the ingress. A partner is a configured AE title, or `other`."""

from gantry_archive.association_watch import association_metrics
from gantry_archive.receipt_metrics import receipt_metrics
from gantry_runtime.metrics import counter, gauge, histogram

ASSOCIATIONS = association_metrics("ingress")
INSTANCES = counter(
    "gantry_ingress_instances_total",
    "C-STORE requests by the status of their answer",
    ["partner", "status"],
)
BYTES = counter(
    "gantry_ingress_bytes_total",
    "Bytes of the data sets of C-STORE requests by the status of their answer",
    ["partner", "status"],
)
REFUSALS = counter(
    "gantry_ingress_refusals_total", "Objects that were refused, by reason", ["partner", "reason"]
)
STAGE_SECONDS = histogram(
    "gantry_ingress_stage_seconds",
    "Time of an object in a stage: receive (from its request to its last byte), commit (until it "
    "is durable)",
    ["stage"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
COMMITMENTS = counter(
    "gantry_ingress_commitments_total",
    "Requests of storage commitment by the status of their answer",
    ["partner", "status"],
)
COMMITMENT_REPORTS = counter(
    "gantry_ingress_commitment_reports_total",
    "Reports of storage commitment over the association of the request: told or refused",
    ["partner", "outcome"],
)
REPORTS_HEARD = counter(
    "gantry_ingress_reports_heard_total",
    "Reports of destinations on what we asked them to keep, by the status of our answer",
    ["status"],
)
PASSED_ON = counter(
    "gantry_ingress_associations_passed_on_total",
    "Associations that were for another service and were passed on to it",
    ["partner", "service"],
)
STORE_AWAY = gauge(
    "gantry_ingress_store_away",
    "Processes that cannot reach the object store: what they receive waits, then gets A700",
)
RECEIPTS = receipt_metrics("ingress")
