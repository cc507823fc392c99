"""`POST /v1/embeddings`, in OpenAI's shape: the model that finds passages, for whoever wants vectors of the same kind.

The model is handed in; the gateway loads nothing.
"""

import asyncio
import base64
from array import array
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from data.errors import BrogueError
from serve.identity import Access, Caller
from serve.openai_errors import ApiError

MOST_TEXTS = 2048  # in one request, as at OpenAI


class Vectors(Protocol):
    """What came of texts."""

    @property
    def vectors(self) -> list[list[float]]:
        """One for each text."""

    @property
    def tokens(self) -> int:
        """How many were read."""


class Model(Protocol):
    """An embedding model. All calls may take long: they are made in a thread."""

    @property
    def model(self) -> str:
        """Its name."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """The texts' vectors. Raises `BrogueError`."""

    def too_long(self, text: str) -> tuple[int, int] | None:
        """The tokens of a text that the model would cut, and how many it reads; none if it reads all of it."""


class Wanted(BaseModel):
    """OpenAI's request; fields that are unknown here are passed over, as OpenAI does."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str
    input: Any  # looked at in _texts, whose messages say more than a type could
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


def embedding_routes(model: Model, access: Access) -> APIRouter:
    """The route /v1/embeddings."""
    routes = APIRouter(tags=["answers"])

    @routes.post("/v1/embeddings")
    async def embeddings(wanted: Wanted, caller: Annotated[Caller, Depends(access.client)]) -> dict[str, Any]:
        """Vectors of length 1 for one text or a list of texts."""
        caller.require_model(wanted.model)
        if wanted.model != model.model:
            message = f"no embedding model '{wanted.model}'; have: {model.model}"
            raise ApiError(404, message, code="model_not_found", param="model")
        texts = _texts(wanted.input)
        try:
            found = await asyncio.to_thread(_embed, model, texts)
        except BrogueError as error:
            raise ApiError(503, str(error), code="embedding_unavailable", param="model") from error
        _check_dimensions(wanted, found)
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, wanted.encoding_format)}
            for index, vector in enumerate(found.vectors)
        ]
        caller.spent(found.tokens)
        usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
        return {"object": "list", "data": data, "model": model.model, "usage": usage}

    return routes


def _texts(given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if isinstance(texts, list) and texts and all(isinstance(t, int | list) for t in texts):
        raise _refused("'input' is tokens, which belong to another model's tokenizer; send the text")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise _refused("wanted 'input': a text, or a list of at least one text")
    if len(texts) > MOST_TEXTS:
        raise _refused(f"'input' has {len(texts)} texts; send at most {MOST_TEXTS} at a time")
    if (empty := next((i for i, text in enumerate(texts) if not text.strip()), None)) is not None:
        raise _refused(f"'input[{empty}]' is empty; leave it out")
    if (broken := next((i for i, text in enumerate(texts) if not _is_text(text)), None)) is not None:
        raise _refused(f"'input[{broken}]' holds half of a surrogate pair, which is no character; leave it out")
    return texts


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _embed(model: Model, texts: list[str]) -> Vectors:
    for index, text in enumerate(texts):
        if (lengths := model.too_long(text)) is not None:
            raise _refused(f"'input[{index}]' has {lengths[0]} tokens, {model.model} reads {lengths[1]}; cut it")
    return model.embed(texts)


def _check_dimensions(wanted: Wanted, found: Vectors) -> None:
    length = len(found.vectors[0])
    if wanted.dimensions not in (None, length):
        message = f"'dimensions' is {wanted.dimensions}, this model's vectors have {length}; leave it out"
        raise ApiError(400, message, param="dimensions")


def _encoded(vector: Sequence[float], form: str) -> Any:
    """Numbers, or base64 of them as 32-bit floats (little-endian), which OpenAI's own client asks for."""
    return base64.b64encode(array("f", vector).tobytes()).decode() if form == "base64" else list(vector)


def _refused(message: str) -> ApiError:
    return ApiError(400, message, param="input")
