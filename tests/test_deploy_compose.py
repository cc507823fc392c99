"""deploy/compose.yaml and what it mounts and builds: as its tools read it, and who reaches whom."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.deploying import DEPLOY, compose, dockerfile, is_ours, run_tool, settings

SERVICES: dict[str, Any] = compose()["services"]
FILES = [["compose.yaml"], ["compose.yaml", "compose.gpu.yaml"]]
FILLED = {"POSTGRES_PASSWORD": "p", "BROGUE_ENGINE_KEY": "e", "BROGUE_ADMIN_KEY": "a", "GRAFANA_PASSWORD": "g"}


def docker_compose(files: list[str], env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """`docker compose config`, which wants no daemon."""
    plugin = ["docker", "compose"]
    if not shutil.which("docker") or subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker compose here")
    words = [word for file in files for word in ("-f", str(DEPLOY / file))]
    clean = {name: value for name, value in os.environ.items() if name not in FILLED} | env
    return subprocess.run([*plugin, "--env-file", "/dev/null", *words, "config"], env=clean, capture_output=True,
                          text=True, timeout=60, check=False)  # fmt: skip


@pytest.mark.parametrize("files", FILES)
def test_docker_compose_takes_it(files: list[str]) -> None:
    done = docker_compose(files, FILLED)
    assert done.returncode == 0, done.stderr
    engine = yaml.safe_load(done.stdout)["services"]["engine-0"]
    assert engine["build"]["target"] == "brogue" and engine["build"]["dockerfile"] == "deploy/Dockerfile"
    assert engine["build"]["args"]["KIND"] == ("gpu" if len(files) == 2 else "cpu")


def test_docker_compose_says_which_secret_is_missing() -> None:
    done = docker_compose(FILES[0], FILLED | {"BROGUE_ENGINE_KEY": ""})
    assert done.returncode != 0 and "BROGUE_ENGINE_KEY" in done.stderr and "env.example" in done.stderr


@pytest.mark.parametrize("file", ["compose.yaml", "compose.gpu.yaml"])
def test_it_is_as_the_schema_of_compose_wants_it(file: str) -> None:
    pytest.importorskip("check_jsonschema")
    run_tool([sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / file])


def test_only_the_proxy_and_grafana_can_be_reached_and_from_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"proxy", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_engines_and_stores_are_not_in_the_network_of_page_and_proxy() -> None:
    inside = {name for name, service in SERVICES.items() if "outside" not in service["networks"]}
    assert inside == {"engine-0", "engine-1", "router", "worker", "postgres", "chroma"}


def test_whatever_runs_comes_back_and_waits_for_what_it_needs() -> None:
    for name, service in SERVICES.items():
        assert service["restart"] == "unless-stopped", name
        if is_ours(service["image"]):
            assert "healthcheck" in service, name
            needs: dict[str, Any] = service["depends_on"]
            assert needs["postgres"] == {"condition": "service_healthy"}, name
            assert all(other in SERVICES for other in needs), name
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert {name for name in used if not name.startswith(".")} == set(compose()["volumes"])
    assert all((DEPLOY / name).exists() for name in used if name.startswith("."))


def test_the_gateways_differ_in_their_home_alone() -> None:
    one, two = (dict(SERVICES[name]) for name in ("gateway-1", "gateway-2"))
    assert one.pop("volumes") != two.pop("volumes")
    assert one == two


def test_prometheus_asks_every_gateway_and_through_one_of_them_every_engine() -> None:
    jobs = {
        job["job_name"]: job
        for job in yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    }
    assert jobs["brogue"]["static_configs"][0]["targets"] == ["gateway-1:8000", "gateway-2:8000"]
    engines = jobs["brogue-engine"]["static_configs"][0]["targets"]
    assert [f"http://{name}" for name in engines] == list(settings().engine.urls)
    assert settings().gateway.open_metrics, "it has no key"
    assert (
        f"--prometheus-port={jobs['vllm-router']['static_configs'][0]['targets'][0].split(':')[1]}"
        in (SERVICES["router"]["command"])
    )
    if promtool := shutil.which("promtool"):
        run_tool([promtool, "check", "config", DEPLOY / "prometheus.yml"])


def test_the_proxy_leads_to_the_gateways_and_keeps_their_metrics_to_itself() -> None:
    text = (DEPLOY / "Caddyfile").read_text(encoding="utf-8")
    assert re.findall(r"reverse_proxy (.+) \{", text) == ["gateway-1:8000 gateway-2:8000", "page:7860"]
    assert re.findall(r"^:(\d+) \{", text, re.MULTILINE) == [port.split(":")[-1] for port in SERVICES["proxy"]["ports"]]
    assert "path /metrics /metrics/*" in text
    assert settings().gateway.behind_proxy and settings().page.behind_proxy
    if caddy := shutil.which("caddy"):
        run_tool([caddy, "validate", "--adapter", "caddyfile", "--config", DEPLOY / "Caddyfile"])


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    provisioning = DEPLOY / "grafana/provisioning"
    [source] = yaml.safe_load((provisioning / "datasources/brogue.yaml").read_text("utf-8"))["datasources"]
    [provider] = yaml.safe_load((provisioning / "dashboards/brogue.yaml").read_text("utf-8"))["providers"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    mounted = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert any(path.startswith(provider["options"]["path"]) for path in mounted)


def test_the_image_is_installed_as_the_set_up_does_it() -> None:
    [version] = re.findall(r"^ARG UV_VERSION=(\S+)", dockerfile(), re.MULTILINE)
    set_up = (ROOT / "scripts/setup.sh").read_text(encoding="utf-8")
    assert f"UV_VERSION={version}\n" in set_up
    [install] = re.findall(r"uv pip install (.*-e \.)", dockerfile())
    assert install in set_up.replace("--quiet ", "")
    copied = re.findall(r"^COPY (\w+) \w+$", dockerfile(), re.MULTILINE)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    assert sorted(copied) == sorted(packages)
    seen = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert set(packages) | {"requirements", "pyproject.toml", "README.md", "LICENSE"} == {
        line[1:] for line in seen if line.startswith("!")
    }
    assert re.findall(r"^USER (\S+)", dockerfile(), re.MULTILINE) == ["10001", "10001"]
    if hadolint := shutil.which("hadolint"):
        run_tool([hadolint, DEPLOY / "Dockerfile"])
