"""Questions to the index: matches page by page, and the instances and headers of a study."""

from gantry_stores.index.search.pages import Page, Searching, Statement, count, search, statement_of
from gantry_stores.index.search.sorting import CURSOR
from gantry_stores.index.search.studies import (
    Holding,
    StoredInstance,
    StudyState,
    Subject,
    headers_of,
    holdings,
    instances_matching,
    instances_of,
    study_state,
    transfer_syntaxes_of,
)

__all__ = [
    "CURSOR",
    "Holding",
    "Page",
    "Searching",
    "Statement",
    "StoredInstance",
    "StudyState",
    "Subject",
    "count",
    "headers_of",
    "holdings",
    "instances_matching",
    "instances_of",
    "search",
    "statement_of",
    "study_state",
    "transfer_syntaxes_of",
]
