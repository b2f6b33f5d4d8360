"""What the query service counts."""

from gantry_archive.association_watch import association_metrics
from gantry_archive.receipt_metrics import receipt_metrics
from gantry_runtime import metrics

REQUESTS = metrics.counter(
    "gantry_query_http_requests_total",
    "HTTP requests by route, method and status; status 0: the client left before an answer",
    ["route", "method", "status"],
)
SECONDS = metrics.histogram(
    "gantry_query_http_request_seconds", "Time from a request to the end of its answer", ["route"]
)
SENT_BYTES = metrics.counter(
    "gantry_query_http_sent_bytes_total", "Bytes of HTTP answers without their heads", ["route"]
)
ACTIVE = metrics.gauge("gantry_query_http_requests_active", "HTTP requests that are being answered")
REFUSED = metrics.counter(
    "gantry_query_http_refused_total",
    "HTTP requests that their caller has no right to, by reason",
    ["reason"],
)
INSTANCES = metrics.counter(
    "gantry_query_http_instances_total",
    "Instances sent over HTTP by the form they were sent in",
    ["form"],
)
STORED = metrics.counter(
    "gantry_query_http_stored_total",
    "Instances that clients sent to be stored, by what became of them",
    ["outcome"],
)
STORED_BYTES = metrics.counter(
    "gantry_query_http_received_bytes_total", "Bytes of the bodies of store requests"
)
ORDERS = metrics.counter(
    "gantry_query_http_orders_total",
    "Orders that clients sent; outcome: taken, refused",
    ["outcome"],
)
DELETED = metrics.counter(
    "gantry_query_http_deleted_total",
    "Instances that clients deleted, by the level of what they named",
    ["level"],
)
RECEIPTS = receipt_metrics("query")
ASSOCIATIONS = association_metrics("query")
FINDS = metrics.counter(
    "gantry_query_finds_total",
    "C-FIND requests by level and final status; status gone: the peer left before it",
    ["partner", "level", "status"],
)
FIND_SECONDS = metrics.histogram(
    "gantry_query_find_seconds", "Time from a C-FIND request to its final answer", ["level"]
)
FIND_MATCHES = metrics.counter(
    "gantry_query_find_matches_total", "Matches sent as answers to C-FIND", ["partner", "level"]
)
RETRIEVALS = metrics.counter(
    "gantry_query_retrievals_total",
    "C-MOVE and C-GET requests by level and final status; status gone: the peer left before it",
    ["service", "partner", "level", "status"],
)
RETRIEVAL_SECONDS = metrics.histogram(
    "gantry_query_retrieval_seconds",
    "Time from a C-MOVE or C-GET request to its final answer",
    ["service"],
)
RETRIEVAL_BYTES = metrics.counter(
    "gantry_query_retrieval_bytes_total",
    "Bytes of data sets sent for C-MOVE and C-GET",
    ["service"],
)
SUB_OPERATIONS = metrics.counter(
    "gantry_query_sub_operations_total",
    "Instances of C-MOVE and C-GET by outcome: completed, warning, failed, not_tried",
    ["service", "partner", "outcome"],
)
