"""The chart: rendered with several files of values, linted, validated, and asserted on."""

import json
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from gantry_ingress import app as ingress_app
from gantry_query import app as query_app
from gantry_worker import app as worker_app
from gantry_worklist import app as worklist_app

ROLES = ("ingress", "worker", "query", "worklist")
KUBERNETES = ("1.31.0", "1.34.0", "1.37.0")
# Of operators; kubernetes-validate has no schema of them.
CUSTOM = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}


@pytest.mark.parametrize("name", ["default", "minimal", "ha", "everything", "keda"])
def test_lint_is_strict_and_finds_nothing(chart: Any, name: str) -> None:
    found = helm_python.lint(chart.folder, chart.values(name), strict=True)
    assert found["errors"] == []
    assert [m["error"] for m in found["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", KUBERNETES)
def test_manifests_fit_kubernetes(rendered: Any, version: str) -> None:
    for manifest in rendered.manifests:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_validation_is_strict(rendered: Any) -> None:
    deployment = json.loads(json.dumps(rendered.of("Deployment")["pacs-gantry-ingress"]))
    deployment["spec"]["template"]["spec"]["enableServiceLink"] = False
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES[0], strict=True)


def test_names_are_unique(rendered: Any) -> None:
    names = [(m["kind"], m["metadata"]["name"]) for m in rendered.manifests]
    assert len(names) == len(set(names))


def test_every_container_is_bounded_and_unprivileged(rendered: Any) -> None:
    pods = dict(rendered.pods())
    assert len(pods) == 6
    for name, pod in pods.items():
        assert pod["enableServiceLinks"] is False, name
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            assert {"cpu", "memory"} <= set(container["resources"]["limits"]), name
            context = container["securityContext"]
            assert context["runAsNonRoot"] is True, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert mounts["tmp"] == "/tmp"
            assert set(mounts) <= {volume["name"] for volume in pod["volumes"]}, name


def test_every_service_is_probed_over_http(rendered: Any) -> None:
    deployments = rendered.of("Deployment")
    assert set(deployments) == {f"pacs-gantry-{role}" for role in ROLES}
    for deployment in deployments.values():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        ports = {port["name"] for port in container["ports"]}
        paths = {
            probe: container[probe]["httpGet"]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        assert {probe["port"] for probe in paths.values()} == {"metrics"} <= ports
        assert paths["readinessProbe"]["path"] == "/readyz"
        assert paths["livenessProbe"]["path"] == paths["startupProbe"]["path"] == "/healthz"


def test_pods_are_given_longer_than_a_drain(rendered: Any) -> None:
    drain = max(
        ingress_app.STOP_GRACE,
        query_app.STOP_GRACE,
        worker_app._STOP_GRACE,
        worklist_app.STOP_GRACE,
    )
    for deployment in rendered.of("Deployment").values():
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        wait = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
        assert pod["terminationGracePeriodSeconds"] > wait + drain + 5


def test_the_chart_refuses_a_grace_shorter_than_the_drain(chart: Any) -> None:
    with pytest.raises(helm_python.HelmValuesError, match="terminationGracePeriodSeconds"):
        chart.render({"terminationGracePeriodSeconds": 30})


def test_gantry_accepts_the_configuration(rendered: Any, tmp_path: Any) -> None:
    settings = rendered.settings("configuration", tmp_path)
    assert settings == rendered.settings("migration", tmp_path)
    assert not settings.listen.loopback
    assert settings.database
    assert settings.broker
    for deployment in rendered.of("Deployment").values():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        role = container["name"]
        assert container["command"] == ["python", "-m", f"gantry_{role}"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports["metrics"] == getattr(settings.ports, f"{role}_metrics")
        if role == "ingress":
            assert ports["dimse"] == settings.ports.dimse
        if role == "query":
            assert ports["dimse"] == settings.ports.query_dimse
            assert ports["http"] == settings.ports.http
        if role == "worklist":
            assert ports["dimse"] == settings.ports.worklist
            assert ports["hl7"] == settings.ports.hl7
        names = {variable["name"] for variable in container["env"]}
        assert "GANTRY_DATABASE_PASSWORD" in names


def test_every_door_of_a_service_leads_to_a_port_of_its_pods(rendered: Any) -> None:
    pods = {
        deployment["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: {
            port["name"]
            for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
        }
        for deployment in rendered.of("Deployment").values()
    }
    for service in rendered.of("Service").values():
        component = service["spec"]["selector"]["app.kubernetes.io/component"]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= pods[component]
    storage = rendered.of("Service")["pacs-gantry-storage"]["spec"]["ports"]
    secured = [(2762, "dimse-tls")] if "dimse-tls" in pods["ingress"] else []
    assert [(port["port"], port["targetPort"]) for port in storage] == [(104, "dimse"), *secured]
    messages = rendered.of("Service")["pacs-gantry-hl7"]["spec"]["ports"]
    secured = [(2576, "hl7-tls")] if "hl7-tls" in pods["worklist"] else []
    assert [(port["port"], port["targetPort"]) for port in messages] == [(2575, "hl7"), *secured]


def test_no_secret_is_made_or_written_down(rendered: Any) -> None:
    assert not rendered.of("Secret")
    for _, pod in rendered.pods():
        for variable in pod["containers"][0].get("env", []):
            if "PASSWORD" in variable["name"]:
                assert set(variable["valueFrom"]) == {"secretKeyRef"}


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"role": {}}, "role"),
        ({"roles": {"ingres": {}}}, "ingres"),
        ({"roles": {"worker": {"replica": 3}}}, "replica"),
        ({"services": {"storage": {"typ": "LoadBalancer"}}}, "typ"),
        ({"services": {"storage": {"type": "Loadbalancer"}}}, "type"),
        ({"monitoring": {"serviceMonitors": {}}}, "serviceMonitors"),
        ({"config": {"listen": {"address": "127.0.0.1"}}}, "address"),
        ({"config": {"database": "mysql://db"}}, "database"),
        ({"config": {"objects": "images"}}, "objects"),
        ({"networkPolicy": {"httpFrom": [{"podselector": {}}]}}, "podselector"),
        ({"roles": {"query": {"resources": {"limits": {"memory": "2 GB"}}}}}, "memory"),
    ],
)
def test_the_schema_refuses_a_typo(chart: Any, values: dict[str, Any], key: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match=key):
        chart.render(values)


def test_addresses_are_kept_where_they_are_filtered_by(chart: Any) -> None:
    def policy(values: dict[str, Any]) -> str | None:
        values.setdefault("services", {"storage": {"type": "LoadBalancer"}})
        service = chart.render(values).of("Service")["pacs-gantry-storage"]
        found: str | None = service["spec"].get("externalTrafficPolicy")
        return found

    partner: dict[str, Any] = {"ae_title": "CT01"}
    assert policy({}) == "Cluster"
    assert policy({"config": {"partners": [partner]}}) == "Cluster"
    filtered = {"config": {"partners": [partner, {"ae_title": "MR", "hosts": ["10.0.0.0/8"]}]}}
    assert policy(filtered) == "Local"
    assert policy(filtered | {"services": {}}) is None
    chosen = {"storage": {"type": "NodePort", "externalTrafficPolicy": "Cluster"}}
    assert policy(filtered | {"services": chosen}) == "Cluster"


def test_migrations_run_before_anything_else(rendered: Any) -> None:
    job = rendered.of("Job")["pacs-gantry-migrate"]
    hooks = job["metadata"]["annotations"]
    assert hooks["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["command"] == ["gantry", "migrate"]
    # What it mounts is there before it.
    needed = rendered.of("ConfigMap")["pacs-gantry-migration"]["metadata"]["annotations"]
    assert needed["helm.sh/hook"] == hooks["helm.sh/hook"]
    assert int(needed["helm.sh/hook-weight"]) < int(hooks["helm.sh/hook-weight"])
    assert "serviceAccountName" not in job["spec"]["template"]["spec"]


def test_a_role_that_grows_has_no_fixed_number(chart: Any, everything: Any) -> None:
    for deployment in everything.of("Deployment").values():
        assert "replicas" not in deployment["spec"]
    assert set(everything.of("HorizontalPodAutoscaler")) == set(everything.of("Deployment"))
    assert not everything.of("ScaledObject")
    keda = chart.render(chart.values("keda"))
    assert set(keda.of("ScaledObject")) == set(keda.of("Deployment"))
    assert not keda.of("HorizontalPodAutoscaler")
    assert all("replicas" in d["spec"] for d in chart.render({}).of("Deployment").values())


def test_autoscalers_name_metrics_that_exist(chart: Any, everything: Any, registry: Any) -> None:
    named = set()
    for scaler in everything.of("HorizontalPodAutoscaler").values():
        for metric in scaler["spec"]["metrics"]:
            if metric["type"] == "Resource":
                continue
            ((_, body),) = ((k, v) for k, v in metric.items() if k != "type")
            name = body["metric"]["name"]
            labels = body["metric"].get("selector", {}).get("matchLabels", {})
            matchers = ",".join(f'{label}="{value}"' for label, value in labels.items())
            assert registry.unknown(f"{name}{{{matchers}}}") == []
            named.add(name)
    for scaler in chart.render(chart.values("keda")).of("ScaledObject").values():
        for trigger in scaler["spec"]["triggers"]:
            query = trigger["metadata"]["query"]
            assert 'namespace="imaging"' in query
            assert registry.unknown(query) == []
            assert any(name in query for name in named)


def test_disruption_budgets_only_where_a_pod_can_go(chart: Any) -> None:
    assert len(chart.render({}).of("PodDisruptionBudget")) == 4
    assert not chart.render(chart.values("minimal")).of("PodDisruptionBudget")


def test_network_policies_cover_every_port(everything: Any) -> None:
    policies = everything.of("NetworkPolicy")
    for name, deployment in everything.of("Deployment").items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        rules = policies[name]["spec"]["ingress"]
        open_ports = {port["port"] for rule in rules for port in rule["ports"]}
        assert open_ports == {port["name"] for port in container["ports"]}
        assert all(rule["from"] for rule in rules)
        assert policies[name]["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_the_operators_manifests_carry_rules_and_names(everything: Any, registry: Any) -> None:
    rules = (everything.of("PrometheusRule")["pacs-gantry"])["spec"]["groups"]
    assert sum(len(group["rules"]) for group in rules) > 20
    monitors = everything.of("ServiceMonitor")
    services = everything.of("Service")
    for role in ROLES:
        spec = monitors[f"pacs-gantry-{role}"]["spec"]
        wanted = spec["selector"]["matchLabels"]
        chosen = [
            n for n, s in services.items() if wanted.items() <= s["metadata"]["labels"].items()
        ]
        assert chosen == [f"pacs-gantry-{role}-metrics"]
        (endpoint,) = spec["endpoints"]
        assert endpoint["relabelings"][0]["replacement"] == f"gantry-{role}"
    dashboard = everything.of("ConfigMap")["pacs-gantry-dashboard"]["data"]["gantry.json"]
    assert json.loads(dashboard)["title"] == "Gantry"


def test_notes_say_how_to_send_a_first_study(rendered: Any) -> None:
    assert "storescu -aec" in rendered.notes
    assert "helm test pacs" in rendered.notes
    assert "pacs-gantry-storage" in rendered.notes


def test_the_package_is_complete_without_the_repository(chart: Any, tmp_path: Any) -> None:
    with helm_python.Chart.load(chart.folder) as loaded:
        archive = loaded.save(tmp_path)
    with helm_python.Chart.load(archive) as packed:
        files = {file["name"] for file in packed.files}
        text = packed.render({"monitoring": {"prometheusRule": {"enabled": True}}}, name="pacs")
    assert {"files/alerts.yml", "files/dashboard.json", "files/first_study.py"} <= files
    rules = list(yaml.safe_load_all(text["gantry/templates/monitoring.yaml"]))
    assert any(rule and rule["kind"] == "PrometheusRule" for rule in rules)
