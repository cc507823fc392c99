"""deploy/kustomization.yaml: what Kubernetes is given, held against its API and against what our gateway offers."""

import asyncio
import re
from typing import Any

import pytest
from kubernetes.client import models  # it comes with chromadb

from adapters.base_model import STARTER_NAME
from data.home import Home
from serve.engine import command_line, environment
from serve.hardware import plan_elsewhere
from tests.deploying import containers, found, is_ours, kubernetes, settings, workloads
from tests.fakes import FakeGateway


@pytest.mark.parametrize("resource", kubernetes(), ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_it_is_as_the_api_wants_it(resource: dict[str, Any]) -> None:
    getattr(models, f"V1{resource['kind']}").model_validate(resource)


def test_a_resource_that_is_wrong_would_be_found() -> None:
    wrong = {"spec": {"template": {"spec": {"containers": [{"image": 1, "imagee": "x"}]}}}}
    with pytest.raises(ValueError) as refused:
        models.V1StatefulSet.model_validate(wrong)
    for said in ("spec.selector", "containers.0.image\n", "containers.0.imagee", "containers.0.name"):
        assert said in str(refused.value)


def test_the_engine_is_started_as_brogue_engine_would_start_it(home: Home) -> None:
    """But for our middleware, which the stock image lacks; the network policy stands in for it."""
    [vllm] = [one for one in containers(dict(workloads())["engine"]) if one["name"] == "vllm"]
    given = settings().engine
    model, plan = "/var/lib/brogue/models/" + STARTER_NAME, plan_elsewhere(given, 8192)
    ours = " ".join(command_line(model, STARTER_NAME, 8000, given, plan, host="0.0.0.0")[3:])
    ours = re.sub(r"--middleware \S+ ", "", ours).replace("--model ", "")
    assert vllm["command"][:2] == ["vllm", "serve"]
    assert " ".join(vllm["command"][2:]).replace("=", " ") == ours
    wanted = environment(home, "key", plan)
    plain = {one["name"]: one["value"] for one in vllm["env"] if "value" in one}
    assert {name: wanted.get(name) for name in plain if name.startswith(("VLLM_", "HF_"))} == {
        name: value for name, value in plain.items() if name.startswith(("VLLM_", "HF_"))
    }


def test_the_probes_of_gateways_ask_for_what_the_gateway_answers(home: Home) -> None:
    [gateway] = dict(workloads())["gateway"]["containers"]
    paths = {name: gateway[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}
    known = FakeGateway(home).app.openapi()["paths"]
    assert set(paths.values()) <= set(known)

    async def story() -> None:
        async with FakeGateway(home).running() as client:
            client.headers.pop("authorization")
            for path in (*paths.values(), "/metrics"):
                assert (await client.get(path)).status_code in (200, 503), path

    asyncio.run(story())


def test_a_gateway_without_engines_is_taken_out_when_its_requests_have_waited_long_enough() -> None:
    [gateway] = dict(workloads())["gateway"]["containers"]
    probe = gateway["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= settings().gateway.max_wait_s


def test_only_gateways_the_worker_and_the_router_reach_an_engine() -> None:
    nobody = found("NetworkPolicy", "nobody")["spec"]
    assert nobody == {"podSelector": {}, "policyTypes": ["Ingress"]}
    [rule] = found("NetworkPolicy", "engine")["spec"]["ingress"]
    [who] = rule["from"]
    assert who["podSelector"]["matchExpressions"] == [
        {"key": "app", "operator": "In", "values": ["gateway", "worker", "router"]}
    ]
    policies = {one["metadata"]["name"]: one["spec"] for one in kubernetes() if one["kind"] == "NetworkPolicy"}
    for name, spec in policies.items():
        if name != "nobody":
            assert spec["podSelector"]["matchLabels"] == {"app": name}
            open_ports = {rule["ports"][0]["port"] for rule in spec["ingress"]}
            assert found("Service", name)["spec"]["ports"][0]["port"] in open_ports


def test_services_disruption_budgets_and_claims_meet_pods() -> None:
    names = {name for name, _ in workloads()}
    claims = {one["metadata"]["name"] for one in kubernetes() if one["kind"] == "PersistentVolumeClaim"}
    for one in kubernetes():
        if one["kind"] == "Service":
            assert one["spec"]["selector"]["app"] in names
            [port] = one["spec"]["ports"]
            pod = dict(workloads())[one["spec"]["selector"]["app"]]
            assert port["port"] in [p["containerPort"] for c in containers(pod) for p in c.get("ports", ())]
        if one["kind"] == "PodDisruptionBudget":
            assert one["spec"]["selector"]["matchLabels"]["app"] in names
        if one["kind"] in ("Deployment", "StatefulSet"):
            spec, name = one["spec"], one["metadata"]["name"]
            assert spec["selector"]["matchLabels"] == {"app": name}
            assert spec["template"]["metadata"]["labels"].items() >= {"app": name}.items()
            volumes = {v["name"] for v in (*spec["template"]["spec"].get("volumes", ()),
                       *(claim["metadata"] for claim in spec.get("volumeClaimTemplates", ())))}  # fmt: skip
            for container in containers(spec["template"]["spec"]):
                assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes, name
            for volume in spec["template"]["spec"].get("volumes", ()):
                if "persistentVolumeClaim" in volume:
                    assert volume["persistentVolumeClaim"]["claimName"] in claims
    assert found("Deployment", "gateway")["spec"]["replicas"] == 2
    assert found("PodDisruptionBudget", "gateway")["spec"]["minAvailable"] == 1


def test_nothing_runs_as_root_or_may_become_it() -> None:
    for name, pod in workloads():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        for container in containers(pod):
            held = container["securityContext"]
            assert held == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}, name
            assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"], name


def test_adapters_come_beside_the_engine_as_long_as_it_runs() -> None:
    pod = dict(workloads())["engine"]
    first, beside = pod["initContainers"]
    assert first["args"] == ["plan", "--no-measure"] and "restartPolicy" not in first
    assert beside["args"] == ["share", "pull", "--follow"] and beside["restartPolicy"] == "Always"
    assert is_ours(first["image"]) and first["image"] == beside["image"]
