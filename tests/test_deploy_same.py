"""deploy/: one settings file, commands that exist, pinned versions, no secrets; the same for Compose and Kubernetes."""

import re
import subprocess
import tomllib
from typing import Any

import click
import pytest
from typer.main import get_command

from assistant.cli_app import app
from tests.conftest import ROOT
from tests.deploying import (
    DEPLOY,
    SECRET_WORDS,
    commands,
    compose,
    containers,
    dockerfile,
    found,
    is_ours,
    kubernetes,
    lock,
    settings,
    workloads,
)

GIVEN = [pytest.param(words, id=f"{where}: {' '.join(words[:3])}") for where, words in commands()]


def test_the_settings_name_services_that_compose_and_kubernetes_have() -> None:
    file = settings()
    for url in (*file.engine.urls, file.engine.router, file.knowledge.chroma_url):
        assert url is not None
        host, port = url.removeprefix("http://").split(":")
        assert _compose_port(host) == port, url
        name = host.split(".")[-1]
        assert str(found("Service", name)["spec"]["ports"][0]["port"]) == port, url
    assert file.store.url == "postgresql://brogue@postgres/brogue"
    assert compose()["services"]["postgres"]["environment"]["POSTGRES_USER"] == "brogue"
    assert {"name": "POSTGRES_DB", "value": "brogue"} in _env("postgres")


def test_every_container_of_ours_has_the_one_settings_file_in_its_home_and_the_shared_artefacts() -> None:
    """A home under the same path everywhere: the gateways tell the engines paths of adapters in it."""
    [home] = re.findall(r"^ENV BROGUE_HOME=(\S+)$", dockerfile(), re.MULTILINE)
    artefacts = settings().shared.artefacts
    homes = []
    for name, service in compose()["services"].items():
        if is_ours(service["image"]):
            volumes = service["volumes"]
            assert f"./brogue.toml:{home}/brogue.toml:ro" in volumes, name
            homes += [volume.split(":")[0] for volume in volumes if volume.endswith(f":{home}")]
            assert name == "page" or f"artefacts:{artefacts}" in volumes, name
    assert len(homes) == len(set(homes)) == 5, "each has a home of its own"
    for name, pod in workloads():
        for container in containers(pod):
            if is_ours(container["image"]):
                mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
                assert mounts[f"{home}/brogue.toml"]["subPath"] == "brogue.toml", name
                assert home in mounts and (name == "page" or artefacts in mounts), name
    [vllm] = [one for one in containers(dict(workloads())["engine"]) if one["name"] == "vllm"]
    assert {"name": "home", "mountPath": home, "readOnly": True} in vllm["volumeMounts"]


def test_kubernetes_has_the_settings_file_itself() -> None:
    maps = {one["metadata"]["name"].split("-")[0]: one for one in kubernetes() if one["kind"] == "ConfigMap"}
    if not maps:
        pytest.skip("no kubectl here, which puts the settings into a ConfigMap")
    assert maps["settings"]["data"] == {"brogue.toml": (DEPLOY / "brogue.toml").read_text(encoding="utf-8")}
    assert maps["settings"]["metadata"]["name"] != "settings", "without a hash pods would keep the old settings"
    named = [volume["configMap"]["name"] for _, pod in workloads() for volume in pod.get("volumes", ())
             if "configMap" in volume]  # fmt: skip
    assert set(named) == {maps["settings"]["metadata"]["name"]}


def test_the_routers_know_the_engines_of_the_settings() -> None:
    router = compose()["services"]["router"]["command"]
    [container] = dict(workloads())["router"]["containers"]
    assert container["command"] == ["vllm-router", *router]
    begin = router.index("--worker-urls") + 1
    assert tuple(router[begin : begin + len(settings().engine.urls)]) == settings().engine.urls
    assert found("StatefulSet", "engine")["spec"]["replicas"] == len(settings().engine.urls)


@pytest.mark.parametrize("words", GIVEN)
def test_every_command_of_ours_is_one(words: list[str]) -> None:
    command, context = get_command(app), None
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        context = command.make_context("brogue", [], parent=context, resilient_parsing=True)
        assert words[0] in command.commands, f"brogue has no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    command.make_context("brogue", list(words), parent=context)  # raises for what it does not take, or lacks


def test_there_are_no_secrets_in_the_files() -> None:
    """By environment alone: of Compose's from .env, of Kubernetes' from a Secret that somebody makes."""
    for name, service in compose()["services"].items():
        for variable, value in service.get("environment", {}).items():
            if SECRET_WORDS.search(variable):
                assert re.fullmatch(r"\$\{\w+:\?.+\}", value), f"{name}: {variable}"
    for name, pod in workloads():
        for container in containers(pod):
            for variable in container.get("env", ()):
                if SECRET_WORDS.search(variable["name"]):
                    assert variable["valueFrom"]["secretKeyRef"]["name"] == "brogue", f"{name}: {variable['name']}"
    assert not [one for one in kubernetes() if one["kind"] == "Secret"]
    assert re.findall(r"^\w+=.+$", (DEPLOY / "env.example").read_text(encoding="utf-8"), re.MULTILINE) == []


def test_env_example_lists_what_is_wanted_and_git_does_not_take_the_filled_one() -> None:
    listed = re.findall(r"^(\w+)=", (DEPLOY / "env.example").read_text(encoding="utf-8"), re.MULTILINE)
    wanted = re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(set(wanted))
    keys = {variable["valueFrom"]["secretKeyRef"]["key"] for name, pod in workloads()
            for container in containers(pod) for variable in container.get("env", ())
            if "valueFrom" in variable}  # fmt: skip
    assert keys == {"POSTGRES_PASSWORD", "BROGUE_ENGINE_KEY", "BROGUE_ADMIN_KEY"}
    assert keys < set(listed)
    ignored = subprocess.run(["git", "check-ignore", "-q", "deploy/.env"], cwd=ROOT, check=False).returncode
    assert ignored in (0, 128), "128: this is no checkout"


def test_nobody_is_told_more_secrets_than_it_needs() -> None:
    told = {name: {word for word in ("BROGUE_ADMIN_KEY", "BROGUE_ENGINE_KEY") if word in service.get("environment", {})}
            for name, service in compose()["services"].items()}  # fmt: skip
    assert {name for name, words in told.items() if "BROGUE_ENGINE_KEY" in words} == {
        "engine-0", "engine-1", "gateway-1", "gateway-2", "worker",
    }  # fmt: skip
    assert {name for name, words in told.items() if "BROGUE_ADMIN_KEY" in words} == {
        "gateway-1", "gateway-2", "worker", "page",
    }  # fmt: skip
    keys = {name: {one["valueFrom"]["secretKeyRef"]["key"] for container in containers(pod)
                   for one in container.get("env", ()) if "valueFrom" in one} for name, pod in workloads()}  # fmt: skip
    assert keys["page"] == {"POSTGRES_PASSWORD", "BROGUE_ADMIN_KEY"}
    assert keys["engine"] == {"POSTGRES_PASSWORD", "BROGUE_ENGINE_KEY"}
    assert keys["router"] == keys["chroma"] == set()


def test_every_image_is_pinned_to_what_is_locked() -> None:
    images = {service["image"] for service in compose()["services"].values()}
    images |= {container["image"] for _, pod in workloads() for container in containers(pod)}
    images |= set(re.findall(r"^FROM (\S+:\S+)", dockerfile(), re.MULTILINE))
    tags = {name: tag for name, _, tag in (image.rpartition(":") for image in images if ":" in image)}
    assert all(tag and tag != "latest" for tag in tags.values()), tags
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    kustomized = re.findall(r"newTag: (\S+)-[cg]pu", (DEPLOY / "kustomization.yaml").read_text(encoding="utf-8"))
    assert tags["brogue"] == f"{version}-cpu" and set(kustomized) == {version}
    assert f"brogue:{version}-gpu" in (DEPLOY / "compose.gpu.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"brogue:(\S+)-[cg]pu", dockerfile())) == {version}
    assert tags["vllm/vllm-openai"] == f"v{lock('vllm', 'gpu')}"
    assert tags["chromadb/chroma"] == lock("chromadb")
    [router] = re.findall(r"vllm-router==(\S+)", dockerfile())
    assert tags["brogue-router"] == router and tags["vllm/vllm-router"] == f"v{router}"


def _compose_port(host: str) -> str:
    """Where the service of this name or alias listens, in Compose."""
    for name, service in compose()["services"].items():
        networks: Any = service["networks"]
        aliases = [one for each in networks.values() for one in each["aliases"]] if isinstance(networks, dict) else []
        if host == name or host in aliases:
            words = " ".join(service.get("command", ())).replace("=", " ")
            given = re.search(r"--port (\d+)", words)
            return given[1] if given else {"chroma": "8000"}[name]
    raise AssertionError(f"no service {host}")


def _env(name: str) -> list[dict[str, Any]]:
    return [variable for container in containers(dict(workloads())[name]) for variable in container["env"]]
