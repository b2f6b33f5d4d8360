"""Rules and dashboard: what they name exists, each alert is proven both ways and explained."""

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "infra" / "prometheus"
RULES = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule["alert"] for rule in RULES]
DASHBOARD = json.loads((ROOT / "infra" / "grafana" / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RUNBOOK = ROOT / "docs" / "operations" / "alerts.md"

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)


def test_an_unknown_name_is_found(registry: Any) -> None:
    name = "gantry_ingress_instances_total"
    assert registry.unknown(f'sum by (partner) (rate({name}{{status="0000"}}[5m]))') == []
    assert registry.unknown("gantry_ingress_instance_total") == ["gantry_ingress_instance_total"]
    assert registry.unknown(f'{name}{{state="0000"}}') == [f"{name}{{state}}"]
    assert registry.unknown(f"sum by (state) ({name})") == ["state"]


@pytest.mark.parametrize("rule", RULES, ids=ALERTS)
def test_a_rule_names_what_exists(rule: dict[str, Any], registry: Any) -> None:
    assert registry.unknown(rule["expr"]) == []
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_a_panel_names_what_exists(panel: dict[str, Any], registry: Any) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        assert registry.unknown(target["expr"]) == []
        assert "gantry_" in target["expr"]


def test_alerts_are_named_once_and_have_their_line_in_the_runbook() -> None:
    assert max(Counter(ALERTS).values()) == 1
    lines = RUNBOOK.read_text(encoding="utf-8").splitlines()
    explained = [line.split("`")[1] for line in lines if line.startswith("| `Gantry")]
    assert explained == ALERTS


@promtool
def test_the_rules_are_rules() -> None:
    subprocess.run(["promtool", "check", "rules", PROMETHEUS / "alerts.yml"], check=True)


@promtool
def test_every_alert_fires_and_is_silent(tmp_path: Path) -> None:
    cases = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    fires, silent = set(), set()
    for case in cases:
        for expectation in case["alert_rule_test"]:
            bucket = fires if expectation["exp_alerts"] else silent
            bucket.add(expectation["alertname"])
    assert fires == set(ALERTS)
    assert silent == set(ALERTS)
    done = subprocess.run(
        ["promtool", "test", "rules", PROMETHEUS / "alerts_test.yml"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_follows_the_flow() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == sorted(rows, key=lambda title: (title[0].isdigit(), title))
    assert [title.split()[1].rstrip(":") for title in rows[1:]] == [
        "Receive",
        "Receipts",
        "Index",
        "Judge",
        "Forward",
        "Read",
        "Orders",
        "Tell",
    ]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
