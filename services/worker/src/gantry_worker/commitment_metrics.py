"""The metrics of storage commitment."""

from gantry_runtime.metrics import counter, gauge

OPEN = gauge(
    "gantry_worker_commitments",
    "Requests of storage commitment that are not answered: waiting (for the index or to be looked "
    "at), checked (the requester is not told yet)",
    ["state"],
    mode="mostrecent",
)
OLDEST_SECONDS = gauge(
    "gantry_worker_commitment_oldest_seconds",
    "The age of the oldest request of storage commitment that is not answered, by state",
    ["state"],
    mode="mostrecent",
)
INSTANCES = counter(
    "gantry_worker_commitment_instances_total",
    "Instances that were looked at for storage commitment: committed, or the failure reason",
    ["outcome"],
)
REPORTS = counter(
    "gantry_worker_commitment_reports_total",
    "Reports of storage commitment over new associations: told, failed (for now), dead",
    ["partner", "outcome"],
)
FAILURES = counter(
    "gantry_worker_commitment_failures_total",
    "Unexpected failures of our own in storage commitment",
)
