"""The metrics of forwarding."""

from gantry_runtime.metrics import counter, gauge, histogram

DELIVERIES = gauge(
    "gantry_worker_deliveries",
    "Deliveries that are not delivered, by destination and state",
    ["destination", "state"],
    mode="mostrecent",
)
OLDEST_UNSENT_SECONDS = gauge(
    "gantry_worker_delivery_oldest_unsent_seconds",
    "For how long the oldest open delivery has been waiting, by destination",
    ["destination"],
    mode="mostrecent",
)
LATE = gauge(
    "gantry_worker_deliveries_late",
    "Deliveries that are open for longer than `forward.late_after`, by destination",
    ["destination"],
    mode="mostrecent",
)
PLANNED = counter(
    "gantry_worker_deliveries_planned_total", "Deliveries that routes gave something new to send"
)
ROUNDS = counter(
    "gantry_worker_delivery_rounds_total",
    "Rounds of sending, by destination and what the delivery became",
    ["destination", "state"],
)
ITEMS = counter(
    "gantry_worker_delivery_items_total",
    "Instances sent or tried, by destination and outcome; not_taken: refused for a class that is "
    "not of images",
    ["destination", "outcome"],
)
BYTES = counter(
    "gantry_worker_delivery_bytes_total", "Bytes of data sets sent, by destination", ["destination"]
)
SEND_SECONDS = histogram(
    "gantry_worker_delivery_item_seconds",
    "Time to send one instance and hear the answer, by destination",
    ["destination"],
)
LAG_SECONDS = histogram(
    "gantry_worker_delivery_lag_seconds",
    "From the completion of a study until it is delivered, by destination",
    ["destination"],
    buckets=(0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400, 259200),
)
FAILURES = counter(
    "gantry_worker_lane_failures_total",
    "Rounds that ended by a failure of our own, by destination and kind",
    ["destination", "kind"],
)
LANE_OPEN = gauge(
    "gantry_worker_lane_open",
    "1 where nobody answers at a destination, and nothing is tried there but a C-ECHO",
    ["destination"],
    mode="mostrecent",
)
LANE_PAUSED_SECONDS = gauge(
    "gantry_worker_lane_paused_seconds",
    "For how long a person has paused a destination; 0 where nobody has",
    ["destination"],
    mode="mostrecent",
)
PROBES = counter(
    "gantry_worker_lane_probes_total",
    "C-ECHOs to destinations that did not answer, by what came of them: answered, nobody",
    ["destination", "outcome"],
)
UNPROVED = gauge(
    "gantry_worker_deliveries_unproved",
    "Deliveries whose destination has not said that it keeps them, by destination and state: due, "
    "asked, resending, failed (for good)",
    ["destination", "state"],
    mode="mostrecent",
)
PROOFS = counter(
    "gantry_worker_proofs_total",
    "Questions whether a destination keeps what was sent, by destination and outcome",
    ["destination", "outcome"],
)
PROOF_FAILURES = counter(
    "gantry_worker_proof_failures_total", "Unexpected failures of our own in proving deliveries"
)
