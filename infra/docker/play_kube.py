#!/usr/bin/env python3
"""Runs the chart's own pods under podman, for a machine without a cluster.

    play_kube.py [--values charts/gantry/ci/minimal-values.yaml] [--bucket] [--keep]

Renders the chart, drops what podman has no word for (Services, policies, the operators' objects),
plays the migration's pod to its end and then the Deployments with their ConfigMap and claim. They
use the database and the broker of the compose stack, in a database of their own, with `--bucket`
its S3 server too (credentials from a Secret), where else the images are on a volume. They are
reached within the network by their pods' names. It ends by sending a study through them, with the
script of `helm test`, which signs in with a token. `--keep` leaves them running. Needs the
development packages and podman.
"""

import argparse
import base64
import json
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "gantry"
DATABASE = "gantry_kube"
CLIENT = "check"
OBJECTS = "gantry-stack-objects"
_PATIENCE = 120.0
_HOST_PORTS = 30_000


def podman(*arguments: str, text: str | None = None, check: bool = True) -> str:
    """Run it; its output."""
    # Not from the root: `play kube` takes a file there that is called as the image for its source.
    done = subprocess.run(
        ["podman", *arguments], input=text, capture_output=True, text=True, check=False, cwd=CHART
    )
    if check and done.returncode:
        raise SystemExit(f"podman {' '.join(arguments[:3])}: {done.stdout}{done.stderr}")
    return done.stdout


def rendered(file: Path, *, bucket: bool) -> list[dict[str, Any]]:
    """The chart's manifests, told to use the stack's stores and the image built here."""
    values = helm_python.values_from_yaml(file.read_text(encoding="utf-8"))
    values.setdefault("config", {}).update(
        database=f"postgresql://gantry@database:5432/{DATABASE}", broker="redis://broker:6379/1"
    )
    values["image"] = {"repository": "localhost/gantry", "tag": "local", "pullPolicy": "Never"}
    values["secrets"] = {
        "database": {"name": "gantry-stack", "key": "DATABASE_PASSWORD"},
        "broker": {"name": "gantry-stack", "key": "BROKER_PASSWORD"},
        "webTokens": {"name": "gantry-stack", "key": "HTTP_TOKENS"},
    }
    values["config"]["auth"] = {"kind": "token", "clients": {CLIENT: {"scopes": ["read", "store"]}}}
    if bucket:
        values["config"]["objects"] = {
            "url": "s3://gantry-kube",
            "endpoint": "http://objects:8333",
            "create": True,
        }
        values["secrets"]["objects"] = {"name": OBJECTS}
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(values, name="pacs", namespace="imaging")
    return [
        document
        for name, text in files.items()
        if not name.endswith(".txt") and "/tests/" not in name
        for document in yaml.safe_load_all(text)
        if document
    ]


def make_secrets(token: str) -> None:
    """The stack's passwords and a token as the Secrets of the values, in the form of podman 4."""
    lines = (ROOT / ".env").read_text(encoding="utf-8").splitlines()
    pairs = dict(line.split("=", 1) for line in lines if "=" in line)
    pairs["HTTP_TOKENS"] = json.dumps({CLIENT: token})
    keys = {"AWS_ACCESS_KEY_ID": "gantry", "AWS_SECRET_ACCESS_KEY": pairs["OBJECTS_PASSWORD"]}
    for secret, held in (("gantry-stack", pairs), (OBJECTS, keys)):
        told = {name: base64.b64encode(value.encode()).decode() for name, value in held.items()}
        podman("secret", "create", secret, "-", text=json.dumps(told))


def play(manifests: list[dict[str, Any]], network: str) -> None:
    """`podman play kube` of these."""
    podman("play", "kube", "--network", network, "-", text=yaml.safe_dump_all(manifests))


def on_loopback(deployment: dict[str, Any]) -> dict[str, Any]:
    """Podman publishes every port of a container: on loopback, and beside those of the stack."""
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        for port in container["ports"]:
            port |= {"hostIP": "127.0.0.1", "hostPort": port["containerPort"] + _HOST_PORTS}
    return deployment


def await_state(what: str, pod: str, command: list[str]) -> None:
    """Wait until a command in a container ends well."""
    deadline = time.monotonic() + _PATIENCE
    while subprocess.run(
        ["podman", "exec", pod, *command], capture_output=True, check=False
    ).returncode:
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not in time\n{podman('logs', '--tail=20', pod)}")
        time.sleep(1)  # between two attempts, until the deadline
    print(f"play_kube: {what}")


def main() -> int:
    """0 where a study went through the chart's pods."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--values", type=Path, default=CHART / "ci" / "minimal-values.yaml")
    parser.add_argument("--bucket", action="store_true")
    parser.add_argument("--network", default="gantry_default")
    parser.add_argument("--database-container", default="gantry_database_1")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    manifests = rendered(arguments.values, bucket=arguments.bucket)
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for manifest in manifests:
        by_kind.setdefault(manifest["kind"], []).append(manifest)
    (job,) = by_kind["Job"]
    migration = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pacs-gantry-migrate", "labels": job["metadata"]["labels"]},
        "spec": job["spec"]["template"]["spec"],
    }
    maps, claims = by_kind["ConfigMap"], by_kind.get("PersistentVolumeClaim", [])
    services = [*maps, *claims, *map(on_loopback, by_kind["Deployment"])]
    ask = ["exec", arguments.database_container, "sh", "-c"]
    connect = 'PGPASSWORD="$POSTGRES_PASSWORD" psql -h 127.0.0.1 -U gantry -d gantry -c'

    def clean() -> None:
        for role in ("ingress", "worker", "query", "worklist"):
            podman("pod", "rm", "--force", f"pacs-gantry-{role}-pod-0", check=False)
        podman("pod", "rm", "--force", "pacs-gantry-migrate", check=False)
        for volume in ("objects", "configuration", "migration"):
            podman("volume", "rm", "--force", f"pacs-gantry-{volume}", check=False)
        podman("secret", "rm", "gantry-stack", check=False)
        podman("secret", "rm", OBJECTS, check=False)
        podman(*ask, f"{connect} 'DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)'", check=False)

    # What an earlier run kept.
    clean()
    podman(*ask, f"{connect} 'CREATE DATABASE {DATABASE}'")
    try:
        token = secrets.token_hex(16)
        make_secrets(token)
        play([*maps, migration], arguments.network)
        code = podman("wait", "pacs-gantry-migrate-migrate").strip()
        if code != "0":
            print(podman("logs", "pacs-gantry-migrate-migrate"))
            return 1
        print("play_kube: migrated")
        play(services, arguments.network)
        roles = ("ingress", "worker", "query", "worklist")
        pods = {role: f"pacs-gantry-{role}-pod-0" for role in roles}
        for role, pod in pods.items():
            await_state(f"{role} is ready", f"{pod}-{role}", ["python", "/usr/local/bin/healthy"])
        script = (CHART / "files" / "first_study.py").read_text(encoding="utf-8")
        container = f"{pods['worker']}-worker"
        command = ["exec", "-i", "--env", f"WEB_TOKEN={token}", container, "python", "-"]
        told = ["--called=GANTRY", "--calling=KUBE", f"--storage={pods['ingress']}:11112"]
        told.append("--stow")
        web = f"--web=http://{pods['query']}:8080/dicomweb"
        print(podman(*command, *told, web, text=script), end="")
        print("play_kube: a study went through the chart's own pods")
    finally:
        if not arguments.keep:
            clean()
    return 0


if __name__ == "__main__":
    sys.exit(main())
