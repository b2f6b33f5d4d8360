"""The metrics of the ingress. A partner is a configured AE title, or `other`."""

from gantry_runtime.metrics import counter, gauge, histogram

ASSOCIATIONS_OPENED = counter(
    "gantry_ingress_associations_opened_total", "Associations that were accepted", ["partner"]
)
ASSOCIATIONS_REJECTED = counter(
    "gantry_ingress_associations_rejected_total",
    "Association requests that were rejected, by reason (PS3.8 Table 9-21)",
    ["partner", "reason"],
)
ASSOCIATIONS_ENDED = counter(
    "gantry_ingress_associations_ended_total",
    "Associations that have ended, by how: released, peer_aborted, lost, idle, ...",
    ["partner", "ending"],
)
ASSOCIATIONS_ACTIVE = gauge("gantry_ingress_associations_active", "Associations that are open now")
CONNECTIONS_FAULTED = counter(
    "gantry_ingress_connections_faulted_total",
    "Connections that never became a request: silent, not_dicom, lost, too_many",
    ["fault"],
)
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
RECEIPTS_PUBLISHED = counter(
    "gantry_ingress_receipts_published_total", "Receipts that the broker took"
)
RECEIPTS_DROPPED = counter(
    "gantry_ingress_receipts_dropped_total",
    "Receipts given up because the broker was away for too long; the sweep finds their objects",
)
RECEIPTS_WAITING = gauge("gantry_ingress_receipts_waiting", "Receipts that wait for the broker")
FAILURES = counter(
    "gantry_ingress_failures_total", "Associations that ended by an error of our own"
)
