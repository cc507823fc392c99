"""The OpenAPI document at /openapi.json: what FastAPI finds out by itself, and what it cannot know.

Errors have one shape on all routes, bearer tokens are looked at by dependencies that FastAPI does not see through, and
bodies that go to the engine as they came have no type here: their schemas (openapi_bodies.py) document, they check
nothing.
"""

import re
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from serve.gate import PUBLIC
from serve.openapi_bodies import ANSWER_HEADERS, BODIES, ErrorAnswer

DESCRIPTION = (
    "OpenAI's API in front of one vLLM engine: assistants, adapters and the base model by name; and what people say "
    "of the answers. Who asks: 'Authorization: Bearer TOKEN' with an API key, a token of POST /v1/sign-in, or the "
    "admin key, which acts for a person named (URL-encoded) in x-brogue-user. While there are neither users nor keys "
    "nobody has to say who they are, and whoever asks is a rater under the `rater` that they give. Errors have "
    "OpenAI's shape."
)
TAGS = {
    "answers": "What OpenAI's clients ask for. Parameters that are not listed go to the engine as they are.",
    "models": "What can be named as `model`.",
    "feedback": "What people say of answers: thumbs, comparisons, rankings, corrections.",
    "queues": "Raters put answers in order, blind, one prompt after the other.",
    "people": "Who asks, signing in, and who may.",
    "adapters": "For admins: versions, and which of them is live.",
    "runs": "For admins: what was trained.",
    "exams": "For admins: how versions did.",
    "knowledge": "For admins: assistants' documents.",
    "files": "Uploads that fine-tuning jobs learn from.",
    "fine-tuning": "Training, as OpenAI offers it: the finished job's model answers at once.",
    "keys": "For admins: API keys with their roles and limits.",
    "health": "Whether it works, for those who watch it.",
}
BEARER = {
    "type": "http", "scheme": "bearer",
    "description": "An API key, a session's token, or the admin key; none while there are neither keys nor users.",
}  # fmt: skip
ERRORS = {
    "4XX": "The request was refused, and the message says why: 400 it is no valid request; 401 no or a wrong token; "
    "403 not for this caller; 404 there is no such model, answer or thing; 405 not with this method; 408 it "
    "came too slowly; 409 it stands against how things are now; 413 and 431 too large; 429 too often.",
    "5XX": "503: the engine or the store cannot be had now; Retry-After says when to ask again, where that is known. "
    "500: a bug; the message has an incident number that stands in the gateway's log.",
}


def new_app(**more: Any) -> FastAPI:
    """A FastAPI application whose document is completed by `completed`."""
    # Interactive docs would load scripts from a CDN; the document itself stays at /openapi.json.
    app = FastAPI(
        title="Brogue", version=version("brogue"), description=DESCRIPTION, docs_url=None, redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"}, generate_unique_id_function=_operation_id,
        redirect_slashes=False,  # a redirect would repeat whatever host the client names
        openapi_tags=[{"name": name, "description": text} for name, text in TAGS.items()], **more,
    )  # fmt: skip
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = completed(plain())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to change the document
    return app


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with errors, tokens, one-line summaries, and the bodies that FastAPI does not see."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own errors; ours have OpenAI's shape
        schemas.pop(name, None)
    models = [model for body in BODIES.values() for model in body]
    kinds = [(model, "validation") for model in (*models, ErrorAnswer)]
    _, found = models_json_schema(kinds, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    if taken := schemas.keys() & found["$defs"].keys():
        raise ValueError(f"two models are called {', '.join(sorted(taken))}: the document can hold one")
    schemas |= found["$defs"]
    document["components"]["securitySchemes"] = {"bearer": BEARER}
    document["components"]["responses"] = {
        name: {"description": text, "content": _json(ErrorAnswer.__name__)} for name, text in ERRORS.items()
    }
    document["security"] = [{}, {"bearer": []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete(path, operation)
    return document


def _complete(path: str, operation: dict[str, Any]) -> None:
    text = " ".join(operation.pop("description", "").split())
    first, _, rest = text.partition(". ")
    operation["summary"] = first.removesuffix(".")
    if rest:
        operation["description"] = rest
    operation["responses"].pop("422", None)
    operation["responses"] |= {name: {"$ref": f"#/components/responses/{name}"} for name in ERRORS}
    if path in PUBLIC:
        operation["security"] = []
    if path in BODIES:
        request, answer = BODIES[path]
        operation["requestBody"] = {"required": True, "content": _json(request.__name__)}
        events = {"text/event-stream": {"schema": {"description": "With `stream`: server-sent events."}}}
        operation["responses"]["200"] |= {"content": _json(answer.__name__) | events, "headers": ANSWER_HEADERS}


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _operation_id(route: APIRoute) -> str:
    """Names for those who generate a client: the tag, and what the function is called."""
    return re.sub(r"\W", "_", "_".join([*map(str, route.tags[:1]), route.name]))
