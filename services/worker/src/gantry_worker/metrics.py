"""The metrics of the worker."""

from gantry_runtime.metrics import counter, gauge, histogram

INDEXED = counter(
    "gantry_worker_objects_indexed_total",
    "Objects that got their row, by state: primary, duplicate, conflict, unreadable",
    ["state"],
)
INDEX_LAG_SECONDS = histogram(
    "gantry_worker_index_lag_seconds",
    "From the beginning of an object's reception until it is indexed",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200, 259200),
)
BATCH_SECONDS = histogram("gantry_worker_batch_seconds", "Time to index one batch")
RETRIES = counter(
    "gantry_worker_index_retries_total",
    "Index transactions run again because another one was in the way",
)
TASKS_FAILED = counter(
    "gantry_worker_tasks_failed_total",
    "Tasks that ended by an error, by task and kind",
    ["task", "kind"],
)
RECEIPTS_RETURNED = counter(
    "gantry_worker_receipts_returned_total",
    "Receipts given back to the broker because the database or the store was away",
)
RECEIPTS_DROPPED = counter(
    "gantry_worker_receipts_dropped_total",
    "Receipts given up while the database or the store was away; the sweep finds their objects",
)
JUDGED = counter("gantry_worker_studies_judged_total", "Verdicts written, by verdict", ["verdict"])
FINDINGS = counter(
    "gantry_worker_findings_total",
    "Findings of the policies, counted at each verdict",
    ["rule", "code", "severity"],
)
COMPLETED = counter(
    "gantry_worker_studies_completed_total",
    "Studies whose quiet time was over, or that have all that their modality told of",
)
PERFORMED_GIVEN_UP = counter(
    "gantry_worker_performed_given_up_total",
    "Performed steps that did not end, or whose images did not all come, in complete_after.longest",
)
LEARNED_QUIET_SECONDS = gauge(
    "gantry_worker_learned_quiet_seconds",
    "Quiet time that was learned of a partner; what is configured counts where that is shorter",
    ["partner"],
    mode="mostrecent",
)
SWEPT = counter("gantry_worker_sweep_found_total", "Objects without a row that the sweep found")
SWEEPS = counter("gantry_worker_sweeps_total", "Runs of the sweep")
HOURS_CLOSED = counter("gantry_worker_hours_closed_total", "Hours of the store that were closed")
PURGED = counter("gantry_worker_objects_purged_total", "Duplicates of the same bytes that are gone")
DELETED_PURGED = counter(
    "gantry_worker_deleted_purged_total", "Objects that were deleted and are purged now"
)
PURGED_BYTES = counter("gantry_worker_purged_bytes_total", "Bytes of the objects purged")
FRAMES_FOUND = counter(
    "gantry_worker_frame_tables_total",
    "Objects whose frames were found by reading all of them",
)

OBJECTS = gauge(
    "gantry_worker_objects",
    "Objects by state; of a large archive the primaries are estimated",
    ["state"],
    mode="mostrecent",
)
STUDIES = gauge(
    "gantry_worker_studies",
    "Studies by verdict; of a large archive the accepted ones are estimated",
    ["verdict"],
    mode="mostrecent",
)
HELD = gauge(
    "gantry_worker_held_studies",
    "Held studies by the rules that find fault with them",
    ["rule"],
    mode="mostrecent",
)
OLDEST_HELD_SECONDS = gauge(
    "gantry_worker_oldest_held_seconds",
    "How long ago the oldest of them got its last image; 0: there is none",
    ["rule"],
    mode="mostrecent",
)
DECISIONS = gauge(
    "gantry_worker_decisions",
    "Decisions of people about studies that stand, by kind",
    ["kind"],
    mode="mostrecent",
)
STUDIES_WAITING = gauge(
    "gantry_worker_studies_waiting",
    "Studies whose newest revision has no verdict, counted up to 10,000",
    mode="mostrecent",
)
SUSPECTS = gauge(
    "gantry_worker_suspects",
    "Objects that were in hand when a process died, or are being tried with care",
    mode="mostrecent",
)
OPEN_HOURS = gauge(
    "gantry_worker_open_hours",
    "Hours of the store that the sweep still looks at",
    mode="mostrecent",
)
OLDEST_OPEN_HOUR_SECONDS = gauge(
    "gantry_worker_oldest_open_hour_seconds",
    "Age of the oldest hour that the sweep still looks at",
    mode="mostrecent",
)
OLDEST_UNINDEXED_SECONDS = gauge(
    "gantry_worker_oldest_unindexed_seconds",
    "Age of the oldest stored object that the last sweep found without a row; 0: none",
    mode="mostrecent",
)
QUEUE_LENGTH = gauge(
    "gantry_worker_queue_length", "Messages that wait in the broker", ["queue"], mode="mostrecent"
)
STRANGE_KEYS = gauge(
    "gantry_worker_strange_keys",
    "Keys seen by the last sweep that Gantry did not write",
    mode="mostrecent",
)
