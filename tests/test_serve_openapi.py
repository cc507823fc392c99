"""The OpenAPI document as a stranger reads it, and whether the gateway keeps to it: schemathesis tries it out."""

import json
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from assistant.knowledge import Knowledge
from data.home import Home
from data.settings_knowledge import KnowledgeSettings
from serve.gate import PUBLIC
from serve.openapi import ERRORS, TAGS
from serve.openapi_bodies import BODIES
from tests.fakes import ADMIN_KEY, FakeGateway, add_assistant, add_version
from tests.knowledge_fakes import WordEmbedder
from tests.strict_engine import StrictEngine

CASES = 32  # of each kind (valid, invalid) for each operation
FEW = {
    "POST /v1/sign-in": 6,
    "POST /v1/users": 8,
    "PATCH /v1/users/{name}": 12,
}  # to check a password takes a fifth of a second
EMBEDDING = "all-minilm-l6-v2"
EMPTY = {  # nothing of it is in the home
    "/v1/exams/{id}", "/v1/exams/{id}/report.html", "/v1/runs/{id}", "/v1/runs/{id}/curves.png", "/v1/rollouts",
    "/v1/knowledge/{name}", "/v1/knowledge/{name}/search", "/v1/adapters/{name}/rollback", "/v1/sign-in",
}  # fmt: skip
MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def gateway(home: Home) -> FakeGateway:
    home.create()
    for adapter in ("reed-voice", "reed-voice", "fern-voice"):
        add_version(home, adapter)
    add_assistant(home, "reed", "adapter: reed-voice\nsystem_prompt: Be Reed.\n")
    gateway = FakeGateway(home, StrictEngine(), Knowledge(home, KnowledgeSettings(), WordEmbedder()), max_wait_s=0.3)
    gateway.loops.command = ("true",)  # in the place of a retrain
    return gateway


@pytest.fixture
def document(gateway: FakeGateway) -> dict[str, Any]:
    return gateway.app.openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def test_every_operation_says_what_it_does_under_a_tag_that_is_explained(document: dict[str, Any]) -> None:
    explained = {tag["name"] for tag in document["tags"] if tag["description"]}
    assert explained == set(TAGS)
    for path, operation in operations(document):
        assert len(operation["summary"].split()) >= 3, f"{path}: {operation['summary']}"
        assert set(operation["tags"]) <= explained, path
    names = Counter(operation["operationId"] for _, operation in operations(document))
    assert names.most_common(1)[0][1] == 1, "names are unique: clients are generated from them"
    assert (document["info"]["title"], document["info"]["license"]["identifier"]) == ("Brogue", "Apache-2.0")


def test_every_operation_has_its_errors_in_openais_shape_and_none_of_fastapis(document: dict[str, Any]) -> None:
    for path, operation in operations(document):
        assert set(ERRORS) <= set(operation["responses"]), path
    assert "422" not in json.dumps(document["paths"])
    assert "HTTPValidationError" not in json.dumps(document)
    error = document["components"]["schemas"]["ErrorObject"]
    assert set(error["required"]) == {"message", "type", "param", "code"}


def test_the_bearer_token_is_declared_and_asked_for_nowhere_where_it_is_not_needed(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert {"bearer": []} in document["security"]
    for path, operation in operations(document):
        assert (operation.get("security") == []) == (path in PUBLIC), path


def test_what_passes_through_unparsed_is_described_all_the_same(document: dict[str, Any]) -> None:
    for path in BODIES:
        operation = document["paths"][path]["post"]
        reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        assert "model" in document["components"]["schemas"][reference.rpartition("/")[2]]["properties"]
        assert set(operation["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}


class Known:
    """Things that are there, by the name of the parameter or the body's field that means them."""

    def __init__(self, client: Any) -> None:
        def post(path: str, body: Any) -> Any:
            reply = client.post(f"http://gateway{path}", json=body)
            assert reply.status_code == 200, reply.text
            return reply

        answers = [post("/v1/chat/completions", {"model": "reed", "messages": MESSAGES}) for _ in range(2)]
        ids = [answer.headers["x-brogue-response-id"] for answer in answers]
        rated = post("/v1/feedback/judgements", {"kind": "rating", "response": ids[0], "thumb": "up"}).json()
        prompts = [{"messages": MESSAGES}] * 5
        queue = {"name": "week", "arms": [{"model": "reed"}, {"model": "base"}], "prompts": prompts}
        post("/v1/feedback/queues", queue)
        turn = post("/v1/feedback/queues/week/next", {}).json()["turn"]["id"]
        post(f"/v1/feedback/turns/{turn}/answers", {})
        response = post("/v1/responses", {"model": "reed", "input": "Hi"}).json()["id"]
        row = json.dumps({"messages": [*MESSAGES, {"role": "assistant", "content": "Hello."}]})
        form = {"files": {"file": ("chats.jsonl", f"{row}\n" * 12)}, "data": {"purpose": "fine-tune"}}
        file = client.post("http://gateway/v1/files", **form).json()["id"]
        wish = {"model": "base", "training_file": file}
        job = post("/v1/fine_tuning/jobs", wish).json()["id"]
        self.by_field = {
            "model": ("reed", "reed-voice@2", "base"), "response_id": ids, "judgement_id": [rated["id"]],
            "turn_id": [turn], "alias": ("stable", "canary"), "version": (1, 2), "base_model": ("base",),
        }  # fmt: skip
        self.by_path = {
            "/v1/adapters": ("fern-voice", "reed-voice"), "/v1/feedback/queues": ("week",), "/v1/models": ("reed",),
            "/v1/users": ("ann",), "/v1/responses": (response,), "/v1/files": (file,), "/v1/fine_tuning/jobs": (job,),
            "/v1/keys": ("app",),
        }  # fmt: skip
        self.bodies: dict[str, tuple[dict[str, Any], ...]] = {
            "/v1/embeddings": ({"model": EMBEDDING, "input": ["a", "b"]},),
            "/v1/feedback/judgements": (
                {"kind": "rating", "response": ids[1], "thumb": "down"},
                {"kind": "comparison", "shown": ids, "verdict": "tie"},
                {"kind": "correction", "response": ids[0], "text": "Better."},
            ),
            "/v1/feedback/queues": (queue | {"name": "month"},),
            "/v1/fine_tuning/jobs": (wish | {"validation_file": None, "method": None, "hyperparameters": None},),
            "/v1/keys": ({"name": "app", "role": "user", "rules": {}},),
            "/v1/feedback/turns/{turn_id}/judgement": ({"verdict": "tie", "ranks": None}, {"ranks": [0, 1]}),
            "/v1/users": ({"name": "ann", "password": "long enough for it"},),
        }  # fmt: skip

    def put_into(self, case: Any, choice: int) -> None:
        """Name what is there, and complete what follows rules that no schema can tell; `choice` says which of them."""
        names = next((names for path, names in self.by_path.items() if case.path.startswith(path)), None)
        for field in case.path_parameters:
            known = self.by_field.get(field) or (names if field in ("name", "id") else None)
            if known is not None:
                case.path_parameters[field] = known[choice % len(known)]
        if not isinstance(case.body, dict):
            return
        for field in case.body:
            if (known := self.by_field.get(field)) is not None:
                case.body[field] = known[choice % len(known)]
        if choice % 2 and (bodies := self.bodies.get(case.path)) is not None:
            case.body.update(bodies[choice // 2 % len(bodies)])

    def put_model_into(self, case: Any) -> None:
        """An invalid request for an answer goes further if it names a model."""
        if isinstance(case.body, dict) and case.path in BODIES and case.body.get("model"):
            case.body["model"] = "reed" if isinstance(case.body["model"], str) else case.body["model"]


def _order(operation: Any) -> tuple[bool, bool, bool]:
    """What ends something comes late; people come last, for with the first of them the system is closed."""
    ends = operation.method == "delete" or operation.path.endswith(("/judgement", "/sign-in", "/cancel"))
    return operation.path.startswith(("/v1/users", "/v1/keys")), operation.method == "delete", ends


@pytest.mark.slow
def test_two_thousand_cases_of_schemathesis_find_no_5xx_and_no_answer_that_breaks_the_schema(
    gateway: FakeGateway,
) -> None:
    """Half of the valid cases name things that are there, so that not all end as a 404."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st
    from hypothesis.errors import Unsatisfiable
    from schemathesis.core.failures import FailureGroup
    from schemathesis.generation.modes import GenerationMode
    from schemathesis.python.asgi import get_client
    from schemathesis.specs.openapi import checks as rules

    wanted = [
        schemathesis.checks.not_a_server_error, rules.status_code_conformance, rules.content_type_conformance,
        rules.response_headers_conformance, rules.response_schema_conformance, rules.negative_data_rejection,
        rules.unsupported_method,
    ]  # fmt: skip
    warnings.simplefilter("ignore")  # hypothesis on parameters of which nothing invalid can be made
    schema = schemathesis.openapi.from_asgi("/openapi.json", gateway.app)
    seen: defaultdict[str, Counter[int]] = defaultdict(Counter)
    failures: dict[tuple[str, str], str] = {}

    with get_client(gateway.app) as client:
        client.headers["authorization"] = f"Bearer {ADMIN_KEY}"
        known = Known(client)

        def try_out(case: Any, choice: int | None) -> None:
            if choice is None:
                known.put_model_into(case)
            elif choice >= 0:
                known.put_into(case, choice)
            label = case.operation.label
            try:
                reply = case.call(session=client)
            except Exception as error:  # what no handler caught: a 500 on a real port
                failures.setdefault((label, type(error).__name__), "\n".join(traceback.format_exception(error)[-12:]))
                return
            seen[label][reply.status_code] += 1
            try:
                case.validate_response(reply, checks=wanted, headers=dict(client.headers))
            except FailureGroup as group:
                for one in group.exceptions:
                    failures.setdefault((label, type(one).__name__), str(group))

        def try_out_all(operation: Any, mode: Any, choices: Any) -> None:
            many = settings(
                max_examples=FEW.get(operation.label, CASES), derandomize=True, deadline=None, database=None,
                phases=[Phase.generate], suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            try:
                many(given(operation.as_strategy(generation_mode=mode), choices)(try_out))()
            except Unsatisfiable:  # it has no parameters, or any text is valid
                pass

        for operation in sorted((found.ok() for found in schema.get_all_operations()), key=_order):
            try_out_all(operation, GenerationMode.POSITIVE, st.sampled_from([-1, -1, -1, *range(6)]))
            try_out_all(operation, GenerationMode.NEGATIVE, st.none())

    told = {label: dict(counts) for label, counts in seen.items()}
    total = sum(counts.total() for counts in seen.values())
    print(f"{total} cases", json.dumps(told, indent=1))
    assert not failures, "\n".join(f"{label} {rule}\n{text}" for (label, rule), text in failures.items())
    assert not [label for label, counts in seen.items() if any(status >= 500 for status in counts)]
    assert total >= 2000
    for label, counts in seen.items():
        assert label.partition(" ")[2] in EMPTY or any(status < 300 for status in counts), (label, counts)
