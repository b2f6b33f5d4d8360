"""Metrics: declared once, well named, and summed over living and dead processes."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gantry_runtime import metrics
from gantry_runtime.exposition import Exposition
from gantry_runtime.metrics import MetricError


def test_a_metric_is_declared_used_and_read() -> None:
    received = metrics.counter("gantry_test_received_total", "Received.", ["partner"])
    assert metrics.sample("gantry_test_received_total", partner="CT01") == 0
    received.labels("CT01").inc(2)
    assert metrics.sample("gantry_test_received_total", partner="CT01") == 2
    took = metrics.histogram("gantry_test_took_seconds", "Took.")
    took.observe(0.2)
    assert metrics.sample("gantry_test_took_seconds_count") == 1
    assert "gantry_test_received_total" in {d.name for d in metrics.declared()}


def test_an_undeclared_metric_raises() -> None:
    with pytest.raises(MetricError, match="is not a declared metric"):
        metrics.sample("gantry_test_nowhere_total")
    metrics.gauge("gantry_test_labelled", "Labelled.", ["state"])
    with pytest.raises(MetricError, match="has the labels"):
        metrics.sample("gantry_test_labelled")


def test_a_wrong_declaration_raises() -> None:
    metrics.gauge("gantry_test_twice", "Twice.")
    with pytest.raises(MetricError, match="declared twice"):
        metrics.gauge("gantry_test_twice", "Twice.")
    with pytest.raises(MetricError, match="begins with gantry_"):
        metrics.gauge("ingress_things", "Things.")
    with pytest.raises(MetricError, match="ends in _total"):
        metrics.counter("gantry_test_things", "Things.")
    with pytest.raises(MetricError, match="another kind"):
        metrics.gauge("gantry_test_things_total", "Things.")
    with pytest.raises(MetricError, match="say what"):
        metrics.gauge("gantry_test_silent", " ")
    with pytest.raises(MetricError, match="patient data or an UID"):
        metrics.gauge("gantry_test_who", "Who.", ["patient_id"])
    with pytest.raises(MetricError, match="patient data or an UID"):
        metrics.gauge("gantry_test_which", "Which.", ["StudyInstanceUID"])


CHILD = """
    import os, sys
    from gantry_runtime import metrics
    c = metrics.counter("gantry_demo_total", "Demo.", ["who"])
    g = metrics.gauge("gantry_demo_live", "Live.", mode="livesum")
    h = metrics.histogram("gantry_demo_seconds", "Took.", buckets=(1, 2))
    c.labels("a").inc(2)
    g.set(5)
    h.observe(1.5)
    print("done", flush=True)
    sys.stdin.read()
"""


def _child(folder: Path) -> "subprocess.Popen[str]":
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD)],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "done\n"
    return child


def _samples(page: bytes) -> dict[str, float]:
    return {
        sample.name + "".join(f" {k}={v}" for k, v in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_the_dead_stay_counted_and_their_live_gauges_go(tmp_path: Path) -> None:
    exposition = Exposition(tmp_path, CollectorRegistry())
    children = [_child(tmp_path) for _ in range(3)]
    expected = {
        "gantry_demo_total who=a": 6,
        "gantry_demo_seconds_bucket le=2.0": 3,
        "gantry_demo_seconds_count": 3,
        "gantry_demo_seconds_sum": 4.5,
        "gantry_demo_live": 15,
    }
    page = _samples(exposition.page())
    assert {key: page[key] for key in expected} == expected
    for child in children[:2]:
        child.communicate()
        exposition.forget_dead()
    expected["gantry_demo_live"] = 5
    page = _samples(exposition.page())
    assert {key: page[key] for key in expected} == expected
    children[2].communicate()
    exposition.forget_dead()
    page = _samples(exposition.page())
    assert page["gantry_demo_total who=a"] == 6
    # One file for each kind, however many processes there were.
    assert {file.name for file in tmp_path.glob("*.db")} == {"counter_dead.db", "histogram_dead.db"}
