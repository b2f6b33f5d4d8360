"""Image and compose stack: what their files say of each other, of the lock and of Gantry holds."""

import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from gantry_domain.object_place import Bucket
from gantry_runtime.settings import load_settings

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ROLES = ("ingress", "worker", "query", "worklist")
DOCKERFILE = (ROOT / "infra" / "docker" / "Dockerfile").read_text(encoding="utf-8")


def test_the_image_is_built_with_the_same_uv_as_elsewhere() -> None:
    start = (ROOT / "gantry").read_text(encoding="utf-8")
    version = re.search(r"^uv_version=(\S+)$", start, re.MULTILINE)
    assert version is not None
    assert f"ARG UV_VERSION={version[1]}\n" in DOCKERFILE


def test_the_image_is_built_from_the_lock_and_runs_without_rights() -> None:
    instructions = re.sub(r"\\\n\s*", "", DOCKERFILE).splitlines()
    syncs = [line for line in instructions if "uv sync" in line]
    assert syncs
    assert all("--frozen" in line and "--no-dev" in line for line in syncs)
    last = max(n for n, line in enumerate(instructions) if line.startswith("FROM"))
    final = instructions[last:]
    assert "USER 10001:10001" in final
    assert any(line.startswith("HEALTHCHECK") for line in final)


def test_the_image_exposes_the_ports_of_the_settings(tmp_path: Path) -> None:
    ports = load_settings({"GANTRY_DATA": str(tmp_path)}).ports
    exposed = re.search(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)
    assert exposed is not None
    supervisors = {getattr(ports, f"{role}_metrics") for role in ROLES}
    assert {int(port) for port in exposed[1].split()} == supervisors | {
        ports.dimse,
        ports.query_dimse,
        ports.worklist,
        ports.hl7,
        ports.http,
    }
    healthy = (ROOT / "infra" / "docker" / "healthy.py").read_text(encoding="utf-8")
    asked = re.search(r"_SUPERVISORS = \(([^)]*)\)", healthy)
    assert asked is not None
    assert {int(port) for port in asked[1].split(",")} == supervisors


def test_what_the_image_copies_is_sent_to_the_builder() -> None:
    wanted = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists()
            assert f"!{source}" in wanted


def test_gantry_accepts_the_configuration_of_the_stack(tmp_path: Path) -> None:
    file = ROOT / "infra" / "compose" / "gantry.yaml"
    settings = load_settings({"GANTRY_CONFIG": str(file), "GANTRY_DATA": str(tmp_path)})
    assert not settings.listen.loopback
    for url in (settings.database, settings.broker):
        assert urlsplit(url or "").hostname in SERVICES
    place = settings.objects_place
    assert isinstance(place, Bucket)
    assert urlsplit(place.endpoint or "").hostname in SERVICES
    for partner in settings.partners:
        assert partner.address is not None
        assert partner.address.split(":")[0] in SERVICES


@pytest.mark.parametrize("role", [*ROLES, "migrate"])
def test_gantrys_containers_are_confined(role: str) -> None:
    service = SERVICES[role]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["tmpfs"]
    assert int(service["stop_grace_period"].removesuffix("s")) > 35
    if role in ROLES:
        assert service["command"] == ["python", "-m", f"gantry_{role}"]


def test_every_role_reaches_the_store_and_the_broker_alike() -> None:
    # The query service stores too (STOW-RS), and publishes what it stored.
    first, *others = (SERVICES[role] for role in ROLES)
    for other in others:
        for key in ("environment", "volumes", "depends_on"):
            assert other[key] == first[key]


def test_no_secret_stands_in_the_file() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            # A password is asked for; other secrets may be empty where nobody needs them.
            if "PASSWORD" in key:
                assert re.fullmatch(r"\$\{\w+:\?.*\}", value), f"{name}: {key}"
            elif "SECRET" in key or "TOKEN" in key:
                assert re.fullmatch(r"\$\{\w+:(\?.*|-)\}", value), f"{name}: {key}"
    tracked = subprocess.run(
        ["git", "check-ignore", "--quiet", "--no-index", ".env"], cwd=ROOT, check=False
    )
    assert tracked.returncode == 0


def test_ports_are_on_loopback_unless_told_otherwise() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("${BIND:-127.0.0.1}:") for port in published)


def test_what_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), source
            else:
                assert source in COMPOSE["volumes"], source


def test_images_are_pinned() -> None:
    for service in SERVICES.values():
        name, _, tag = service["image"].rpartition(":")
        assert name
        assert tag not in {"", "latest"}


def test_prometheus_asks_every_role_where_it_answers(tmp_path: Path) -> None:
    ports = load_settings({"GANTRY_DATA": str(tmp_path)}).ports
    file = ROOT / "infra" / "prometheus" / "prometheus.yml"
    jobs = {
        job["job_name"]: job["static_configs"][0]["targets"]
        for job in yaml.safe_load(file.read_text(encoding="utf-8"))["scrape_configs"]
    }
    assert jobs == {
        f"gantry-{role}": [f"{role}:{getattr(ports, f'{role}_metrics')}"] for role in ROLES
    }
    mounted = [volume.split(":")[:2] for volume in SERVICES["prometheus"]["volumes"]]
    assert ["./infra/prometheus/alerts.yml", "/etc/prometheus/alerts.yml"] in mounted
