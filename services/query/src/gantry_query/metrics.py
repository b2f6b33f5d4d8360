"""What the query service counts."""

from gantry_archive.association_watch import association_metrics
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
INSTANCES = metrics.counter(
    "gantry_query_http_instances_total",
    "Instances sent over HTTP by the form they were sent in",
    ["form"],
)
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
