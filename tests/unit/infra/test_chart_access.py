"""What the chart's pods reach and who reaches them: stores, secrets, certificates, ports."""

import json
from typing import Any

import pytest

from gantry_runtime.settings import ENVIRONMENT

PLACES = {"GANTRY_CONFIG", "GANTRY_DATA", "GANTRY_PORT_BASE"}


def test_images_outlive_the_release(chart: Any, everything: Any) -> None:
    claim = everything.of("PersistentVolumeClaim")["pacs-gantry-objects"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    claimed = chart.render({"storage": {"existingClaim": "images"}})
    assert not claimed.of("PersistentVolumeClaim")
    volumes = claimed.of("Deployment")["pacs-gantry-worker"]["spec"]["template"]["spec"]["volumes"]
    assert {"claimName": "images"} in [volume.get("persistentVolumeClaim") for volume in volumes]


def test_the_worker_alone_has_the_folders_that_are_sent_to(chart: Any) -> None:
    rendered = chart.render({"exports": [{"claim": "vault", "path": "/exports/vault"}]})
    for name, deployment in rendered.of("Deployment").items():
        pod = deployment["spec"]["template"]["spec"]
        paths = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        claims = [volume.get("persistentVolumeClaim") for volume in pod["volumes"]]
        worker = name == "pacs-gantry-worker"
        assert ("/exports/vault" in paths) is worker
        assert ({"claimName": "vault"} in claims) is worker


@pytest.mark.parametrize("values", ["s3://images", {"url": "s3://images", "region": "eu"}])
def test_a_bucket_needs_no_volume(chart: Any, values: Any, tmp_path: Any) -> None:
    rendered = chart.render(
        {"config": {"objects": values}, "secrets": {"objects": {"name": "keys"}}}
    )
    assert not rendered.of("PersistentVolumeClaim")
    for name, pod in rendered.pods():
        assert "objects" not in {volume["name"] for volume in pod["volumes"]}, name
    for deployment in rendered.of("Deployment").values():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]
    place = rendered.settings("configuration", tmp_path).objects_place
    assert getattr(place, "name", None) == "images"


def test_pods_have_an_identity_that_may_be_given_a_role(chart: Any) -> None:
    annotations = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/gantry"}
    rendered = chart.render(
        {"config": {"objects": "s3://images"}, "serviceAccount": {"annotations": annotations}}
    )
    account = rendered.of("ServiceAccount")["pacs-gantry"]
    assert account["metadata"]["annotations"] == annotations
    for deployment in rendered.of("Deployment").values():
        pod = deployment["spec"]["template"]["spec"]
        assert pod["serviceAccountName"] == "pacs-gantry"
        # Else the token that is projected into the pod could not be read.
        assert pod["securityContext"]["fsGroup"] == 10001
        (container,) = pod["containers"]
        assert "envFrom" not in container


@pytest.mark.parametrize(
    ("unknown", "stored"),
    [
        (None, True),
        ("accept", True),
        ({"query": "refuse"}, True),
        ("refuse", False),
        ({"store": "refuse"}, False),
    ],
)
def test_helm_test_stores_over_http_where_that_is_allowed(
    chart: Any, unknown: Any, stored: bool
) -> None:
    rendered = chart.render({"config": {"unknown_partners": unknown}} if unknown else {})
    (container,) = rendered.of("Pod")["pacs-gantry-test"]["spec"]["containers"]
    assert ("--stow" in container["command"]) is stored


def test_every_secret_of_gantrys_reaches_every_pod_that_reads_the_configuration(
    chart: Any,
) -> None:
    named = {
        name: {"name": f"secret-{name}", "key": "k"}
        for name in (
            "database",
            "broker",
            "dimsePasscodes",
            "dimseJwtSecret",
            "dicomwebSecrets",
            "webhookSecrets",
            "deidentifyingKey",
            "tlsKeyPassword",
        )
    }
    rendered = chart.render({"secrets": named})
    secrets = {name for name in ENVIRONMENT if name not in PLACES | {"GANTRY_HTTP_TOKENS"}}
    for name, pod in rendered.pods():
        if not name.startswith("Pod/"):
            (container,) = pod["containers"]
            given = {variable["name"] for variable in container["env"] if "valueFrom" in variable}
            assert given == secrets, name


def _component(peer: dict[str, Any]) -> str:
    """Which of our pods a peer of a NetworkPolicy is; empty for others."""
    labels: dict[str, str] = peer.get("podSelector", {}).get("matchLabels", {})
    return labels.get("app.kubernetes.io/component", "")


def test_ports_for_tls_are_open_where_the_configuration_has_them(
    chart: Any, everything: Any
) -> None:
    for role, service, port in (("ingress", "storage", 2762), ("query", "query", 2763)):
        pod = everything.of("Deployment")[f"pacs-gantry-{role}"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        assert ports["dimse-tls"] == port
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert mounts["/etc/gantry-tls"]["readOnly"] is True
        doors = everything.of("Service")[f"pacs-gantry-{service}"]["spec"]["ports"]
        assert (2762, "dimse-tls") in [(door["port"], door["targetPort"]) for door in doors]
        policy = everything.of("NetworkPolicy")[f"pacs-gantry-{role}"]["spec"]["ingress"]
        rules = {rule["ports"][0]["port"]: rule.get("from") for rule in policy}
        # Gantry's own front door calls without TLS; from elsewhere both are open alike.
        callers = [peer for peer in rules["dimse"] if _component(peer) != "ingress"]
        assert rules["dimse-tls"] == callers
        assert {"ipBlock": {"cidr": "10.0.0.0/8"}} in callers
    for service in chart.render({}).of("Service").values():
        assert "dimse-tls" not in {port["name"] for port in service["spec"]["ports"]}


def test_every_role_reaches_the_store_and_the_broker_alike(rendered: Any) -> None:
    # The query service stores too (STOW-RS), and publishes what it stored.
    roles = {
        name: deployment["spec"]["template"]["spec"]["containers"][0]
        for name, deployment in rendered.of("Deployment").items()
    }
    given = {
        name: (
            [name for name in container["env"] if name["name"] != "GANTRY_HTTP_TOKENS"],
            container.get("envFrom"),
            [mount for mount in container["volumeMounts"] if mount["name"] == "objects"],
        )
        for name, container in roles.items()
    }
    assert len({json.dumps(access) for access in given.values()}) == 1, given
    for container in roles.values():
        for mount in container["volumeMounts"]:
            assert mount["name"] != "objects" or not mount.get("readOnly")


def test_a_folder_in_a_section_is_a_volume_too(chart: Any) -> None:
    rendered = chart.render({"config": {"objects": {"folder": "/images"}}})
    assert rendered.of("PersistentVolumeClaim")
    for deployment in rendered.of("Deployment").values():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert {"name": "objects", "mountPath": "/images"} in container["volumeMounts"]


def test_the_front_door_reaches_the_port_of_queries(chart: Any, tmp_path: Any) -> None:
    rendered = chart.render(
        {"services": {"query": {"port": 4242}}, "networkPolicy": {"dimseFrom": []}}
    )
    settings = rendered.settings("configuration", tmp_path)
    assert settings.query_place == ("pacs-gantry-query", 4242)
    (service,) = rendered.of("Service")["pacs-gantry-query"]["spec"]["ports"]
    assert service["port"] == 4242
    rules = rendered.of("NetworkPolicy")["pacs-gantry-query"]["spec"]["ingress"]
    (dimse,) = [rule for rule in rules if rule["ports"][0]["port"] == "dimse"]
    callers = {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in dimse["from"]
    }
    assert callers == {"ingress", "test"}
    assert settings.worklist_place == ("pacs-gantry-worklist", 11114)
    rules = rendered.of("NetworkPolicy")["pacs-gantry-worklist"]["spec"]["ingress"]
    (worklist,) = [rule for rule in rules if rule["ports"][0]["port"] == "dimse"]
    assert worklist["from"] == dimse["from"]
    own = chart.render({"config": {"ingress": {"front_door": {"query": "elsewhere:104"}}}})
    assert own.settings("configuration", tmp_path).query_place == ("elsewhere", 104)


def test_tokens_are_known_to_query_alone(everything: Any) -> None:
    for name, pod in everything.pods():
        told = {variable["name"] for variable in pod["containers"][0].get("env", [])}
        assert ("GANTRY_HTTP_TOKENS" in told) is name.endswith("-query"), name
    (test,) = everything.of("Pod").values()
    (container,) = test["spec"]["containers"]
    assert [variable["name"] for variable in container["env"]] == ["WEB_TOKEN"]
    assert "--stow" in container["command"]


def test_certificates_are_mounted_where_the_configuration_names_them(chart: Any) -> None:
    ha = chart.render(chart.values("ha"))
    for name, pod in ha.pods():
        mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert ("/etc/gantry-certificates" in mounts) is not name.startswith("Pod/"), name
