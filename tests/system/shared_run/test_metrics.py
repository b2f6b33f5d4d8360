"""Each service's /metrics moves with the traffic, and its probes tell the truth."""

from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest
from pynetdicom import build_context
from pynetdicom.sop_class import CTImageStorage

from blackbox.datasets import SECRET, Sample, image, studies, write
from blackbox.dicomweb import Archive
from blackbox.index import Index
from blackbox.metrics import Metrics
from blackbox.run import SERVICES, Gantry
from blackbox.scu import associate, association, send, store
from blackbox.waiting import until

EXPLICIT = "1.2.840.10008.1.2.1"


def moved(
    gantry: Gantry, service: str, before: Metrics, name: str, by: float, **labels: str
) -> None:
    """Waits until a metric has grown by exactly so much since `before`."""

    def grown() -> bool:
        now = gantry.metrics(service).value(name, **labels)
        return now - before.value(name, **labels) == by

    until(grown, f"{name} {labels} has grown by {by:g}", seconds=20)


@pytest.fixture
def images(tmp_path: Path) -> list[Sample]:
    """A study of seven images."""
    endless = studies(tmp_path, images=7)
    return [next(endless) for _ in range(7)]


@pytest.mark.parametrize("service", SERVICES)
def test_probes_and_metrics_answer(gantry: Gantry, service: str) -> None:
    base = f"http://127.0.0.1:{gantry.port(service)}"
    assert httpx.get(f"{base}/healthz").status_code == 200
    status, body = gantry.readiness(service)
    assert status == 200
    assert body["ready"] is True
    assert body["processes"]
    metrics = gantry.metrics(service)
    assert metrics.value("gantry_ready") == 1
    ours = {name for name in metrics.names() if name.startswith("gantry_")}
    assert len(ours) > 3
    text = httpx.get(f"{base}/metrics").text
    for name in ours:
        family = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        assert f"# HELP {family} " in text or f"# HELP {family.removesuffix('_total')} " in text


def test_ingress_counts_associations_instances_and_bytes_by_partner(
    gantry: Gantry, images: Sequence[Sample]
) -> None:
    before = gantry.metrics("ingress")
    answers = send(gantry.port("dimse"), images)
    assert all(answer.success for answer in answers)
    stranger = send(gantry.port("dimse"), images[:2], calling_ae="STRANGER")
    assert all(answer.success for answer in stranger)

    def check(name: str, by: float, **labels: str) -> None:
        moved(gantry, "ingress", before, name, by, **labels)

    check("gantry_ingress_associations_opened_total", 1, partner="CT01")
    check("gantry_ingress_associations_opened_total", 1, partner="other")
    check("gantry_ingress_associations_ended_total", 1, partner="CT01", ending="released")
    check("gantry_ingress_instances_total", 7, partner="CT01", status="0000")
    check("gantry_ingress_instances_total", 2, partner="other", status="0000")
    size = sum(len(sample.dataset_bytes) for sample in images)
    check("gantry_ingress_bytes_total", size, partner="CT01", status="0000")
    check("gantry_ingress_stage_seconds_count", 9, stage="commit")
    check("gantry_ingress_receipts_published_total", 9)
    check("gantry_ingress_receipts_dropped_total", 0)
    until(
        lambda: gantry.metrics("ingress").value("gantry_ingress_receipts_waiting") == 0,
        "no receipt waits",
    )
    # A caller's own title is no label: anyone may invent titles without end.
    assert "STRANGER" not in httpx.get(f"http://127.0.0.1:{gantry.port('ingress')}/metrics").text


def test_ingress_counts_open_associations(gantry: Gantry, images: Sequence[Sample]) -> None:
    def active() -> float:
        return gantry.metrics("ingress").value("gantry_ingress_associations_active")

    until(lambda: active() == 0, "no association is open")
    with association(gantry.port("dimse"), images), association(gantry.port("dimse"), images):
        until(lambda: active() == 2, "two associations are open")
    until(lambda: active() == 0, "none is open again")


def test_ingress_counts_refusals_and_rejections(gantry: Gantry, tmp_path: Path) -> None:
    before = gantry.metrics("ingress")
    without_series = image()
    del without_series.SeriesInstanceUID
    sample = write(without_series, tmp_path)
    with association(gantry.port("dimse"), [sample]) as assoc:
        answer = store(assoc, sample)
    assert answer.status == 0xC000  # PS3.4 Table B.2-1
    assert "SeriesInstanceUID" in answer.comment
    wrong_title = associate(
        gantry.port("dimse"), [build_context(CTImageStorage, EXPLICIT)], called_ae="NOBODY"
    )
    assert wrong_title.is_rejected
    moved(gantry, "ingress", before, "gantry_ingress_instances_total", 1, status="C000")
    moved(gantry, "ingress", before, "gantry_ingress_refusals_total", 1, reason="missing_uid")
    moved(
        gantry,
        "ingress",
        before,
        "gantry_ingress_associations_rejected_total",
        1,
        reason="called_ae",
    )


def test_worker_counts_objects_lag_and_hours(
    gantry: Gantry, index: Index, images: Sequence[Sample]
) -> None:
    until(index.settled, "nothing waits")
    before = gantry.metrics("worker")
    assert all(answer.success for answer in send(gantry.port("dimse"), images))
    until(lambda: len(index.objects_of(images[-1].SOPInstanceUID)) == 1, "all are indexed")

    def check(name: str, by: float, **labels: str) -> None:
        moved(gantry, "worker", before, name, by, **labels)

    check("gantry_worker_objects_indexed_total", 7, state="primary")
    check("gantry_worker_index_lag_seconds_count", 7)
    # From reception to index in seconds, not minutes.
    now = gantry.metrics("worker")
    slow = now.value("gantry_worker_index_lag_seconds_count") - now.value(
        "gantry_worker_index_lag_seconds_bucket", le="10.0"
    )
    fast_before = before.value("gantry_worker_index_lag_seconds_count") - before.value(
        "gantry_worker_index_lag_seconds_bucket", le="10.0"
    )
    assert slow == fast_before
    grown = "gantry_worker_batch_seconds_count"
    assert gantry.metrics("worker").value(grown) > before.value(grown)

    # The gauges follow what is in the index.
    def gauges_agree() -> bool:
        metrics = gantry.metrics("worker")
        states = dict(index.rows("SELECT state, count(*) FROM object GROUP BY state"))
        return all(
            metrics.value("gantry_worker_objects", state=state) == states.get(state, 0)
            for state in ("primary", "duplicate", "conflict", "unreadable")
        )

    until(gauges_agree, "objects by state are those of the index", seconds=45)
    metrics = gantry.metrics("worker")
    assert metrics.value("gantry_worker_open_hours") >= 1
    assert metrics.value("gantry_worker_studies_waiting") == 0
    assert {
        sample.labels["queue"] for sample in metrics.matching("gantry_worker_queue_length")
    } >= {"index"}
    assert metrics.value("gantry_worker_sweeps_total") >= 1


def test_query_counts_requests_by_route(gantry: Gantry, images: Sequence[Sample]) -> None:
    send(gantry.port("dimse"), images)
    archive = Archive(gantry.http)
    uid = images[0].SOPInstanceUID
    until(lambda: archive.found([uid]), "the image is found")
    before = gantry.metrics("query")
    archive.retrieve(*archive.found([uid])[uid], uid)
    study = images[0].StudyInstanceUID
    gantry.http.get("/dicomweb/studies/1.2.3.4/metadata")

    def count(status: str, route: str) -> Callable[[], bool]:
        labels = {"status": status, "route": route, "method": "GET"}

        def requests(metrics: Metrics) -> float:
            return metrics.value("gantry_query_http_requests_total", **labels)

        return lambda: requests(gantry.metrics("query")) - requests(before) == 1

    study_route = "/studies/{StudyInstanceUID}"
    instances = study_route + "/series/{SeriesInstanceUID}/instances/{SOPInstanceUID}"
    until(count("200", instances), "the retrieval is counted under its route")
    until(count("200", "/instances"), "the search is counted under its route")
    until(count("404", f"{study_route}/metadata"), "the failure is counted too")
    routes = {
        sample.labels["route"]
        for sample in gantry.metrics("query").matching("gantry_query_http_requests_total")
    }
    assert not any(study in route or "1.2.3.4" in route for route in routes)
    assert gantry.metrics("query").value("gantry_query_http_sent_bytes_total") > 1000


def test_no_metric_names_a_patient(gantry: Gantry) -> None:
    for service in SERVICES:
        text = httpx.get(f"http://127.0.0.1:{gantry.port(service)}/metrics").text
        assert SECRET.casefold() not in text.casefold()
