"""The chart as Helm renders it, and what Gantry's processes can count."""

import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from prometheus_client import CollectorRegistry

from gantry_runtime import metrics
from gantry_runtime.settings import Settings, load_settings
from gantry_runtime.supervision import _Meters

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "gantry"
NAMES = [
    "default",
    *sorted(file.name.removesuffix("-values.yaml") for file in (CHART / "ci").iterdir()),
]
_MODULES = (
    "gantry_ingress.metrics",
    "gantry_worker.metrics",
    "gantry_worker.commitment_metrics",
    "gantry_worker.forward_metrics",
    "gantry_worker.subscriber_metrics",
    "gantry_query.metrics",
    "gantry_worklist.metrics",
)
_SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}

Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rendered:
    """One rendering: every manifest, hooks and tests too, and the notes."""

    manifests: tuple[Manifest, ...]
    notes: str

    def of(self, kind: str) -> dict[str, Manifest]:
        """The manifests of a kind by name."""
        return {m["metadata"]["name"]: m for m in self.manifests if m["kind"] == kind}

    def settings(self, suffix: str, folder: Path) -> Settings:
        """What Gantry itself reads from a ConfigMap."""
        text = self.of("ConfigMap")[f"pacs-gantry-{suffix}"]["data"]["gantry.yaml"]
        file = folder / f"{suffix}.yaml"
        file.write_text(text, encoding="utf-8")
        return load_settings({"GANTRY_CONFIG": str(file), "GANTRY_DATA": str(folder)})

    def pods(self) -> Iterator[tuple[str, Manifest]]:
        """Each pod's specification, with the kind and name of what makes it."""
        for m in self.manifests:
            name = f"{m['kind']}/{m['metadata']['name']}"
            if m["kind"] in {"Deployment", "Job"}:
                yield name, m["spec"]["template"]["spec"]
            elif m["kind"] == "Pod":
                yield name, m["spec"]


class Chart:
    """Gantry's chart."""

    folder = CHART

    def values(self, name: str) -> dict[str, Any]:
        """The values of one file in `ci`; those of `default` are none."""
        if name == "default":
            return {}
        text = (CHART / "ci" / f"{name}-values.yaml").read_text(encoding="utf-8")
        return helm_python.values_from_yaml(text)

    def render(self, values: Mapping[str, Any]) -> Rendered:
        """What Helm makes of it with these values."""
        with helm_python.Chart.load(CHART) as chart:
            # `helm install` checks before it renders; the library's `render` does not.
            chart.validate_schema(dict(values))
            files = chart.render(dict(values), name="pacs", namespace="imaging")
        manifests = [
            document
            for file, text in sorted(files.items())
            if not file.endswith(".txt")
            for document in yaml.safe_load_all(text)
            if document
        ]
        notes = next(text for file, text in files.items() if file.endswith("NOTES.txt"))
        return Rendered(tuple(manifests), notes)


class Registry:
    """Every series that Gantry's pages can have, with its labels."""

    _METRIC = re.compile(r"\bgantry_[a-z0-9_]+")
    _MATCHERS = re.compile(r"(gantry_[a-z0-9_]+)\s*\{([^}]*)\}")
    _LABEL = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")
    _GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
    # Prometheus and Kubernetes add these.
    _ADDED = frozenset({"job", "instance", "namespace", "pod"})

    def __init__(self, series: Mapping[str, frozenset[str]]) -> None:
        self.series = series

    def unknown(self, expression: str) -> list[str]:
        """The metrics and labels of a PromQL expression that no process of Gantry has."""
        plain = re.sub(r'"[^"]*"', '""', expression)
        named = set(self._METRIC.findall(plain))
        wrong = sorted(named - set(self.series))
        for metric, matchers in self._MATCHERS.findall(plain):
            known = self.series.get(metric, frozenset()) | self._ADDED
            wrong += [f"{metric}{{{x}}}" for x in self._LABEL.findall(matchers) if x not in known]
        known = self._ADDED.union(*(self.series.get(metric, ()) for metric in named))
        for names in self._GROUPING.findall(plain):
            wrong += [x for x in re.split(r"[\s,]+", names.strip()) if x and x not in known]
        return wrong


@pytest.fixture(scope="session")
def chart() -> Chart:
    """Gantry's chart."""
    return Chart()


@pytest.fixture(scope="session", params=NAMES)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    """The chart with each file of values in turn."""
    chart = Chart()
    return chart.render(chart.values(request.param))


@pytest.fixture(scope="session")
def everything() -> Rendered:
    """The chart with every switch on."""
    chart = Chart()
    return chart.render(chart.values("everything"))


@pytest.fixture(scope="session")
def registry() -> Registry:
    """What is declared, in the services' modules and by their supervisors."""
    for module in _MODULES:
        importlib.import_module(module)
    known = {
        declaration.name + suffix: frozenset(declaration.labels)
        | ({"le"} if suffix == "_bucket" else set())
        for declaration in metrics.declared()
        # Other tests declare their own.
        if not declaration.name.startswith("gantry_test_")
        for suffix in _SUFFIXES[declaration.kind]
    }
    own = CollectorRegistry()
    _Meters(own)
    labels = {
        name: frozenset(metric._labelnames) for name, metric in own._names_to_collectors.items()
    }
    assert "gantry_ready" in labels
    return Registry(known | labels)
