"""An embedding model behind an OpenAI-compatible API."""

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from assistant.embeddings import Identity, Kind, Tell
from assistant.embeddings_models import unit
from data.errors import BrogueError, one_line

if TYPE_CHECKING:
    import numpy as np

KEY = "BROGUE_EMBEDDING_KEY"  # in the environment: the key of the API at embedding_url
_BATCH = 64  # texts in one request


class RemoteEmbedder:
    """A model behind an OpenAI-compatible `/v1/embeddings`."""

    max_tokens = 512  # such servers do not tell; passages are made for this

    def __init__(self, url: str, model: str) -> None:
        import httpx

        self._url, self._model = f"{url.rstrip('/')}/embeddings", model
        key = os.environ.get(KEY, "").strip()
        self._client = httpx.Client(timeout=120, headers={"Authorization": f"Bearer {key}"} if key else {})

    @cached_property
    def identity(self) -> Identity:
        """The model's name; the length of its vectors is asked for."""
        return Identity(name=self._model, sha256="", dimension=len(self._ask(["dimension"])[0]))

    def encode(self, texts: Sequence[str], kind: Kind, tell: Tell = lambda _: None) -> "np.ndarray[Any, Any]":  # noqa: ARG002
        """See `Embedder.encode`."""
        import numpy as np

        rows: list[list[float]] = []
        for begin in range(0, len(texts), _BATCH):
            rows += self._ask(texts[begin : begin + _BATCH])
            tell(f"embedding {len(rows)} of {len(texts)} passages")
        if any(len(row) != self.identity.dimension for row in rows):
            raise BrogueError(f"{self._url}: the lengths of its vectors differ; it should serve one model as this name")
        return unit(np.array(rows, dtype=np.float32).reshape(len(texts), self.identity.dimension))

    def count_tokens(self, text: str) -> int:
        """A cautious guess: the server's tokenizer is not known."""
        return len(text) // 3 + 1

    def _ask(self, texts: Sequence[str]) -> list[list[float]]:
        import httpx

        try:
            answer = self._client.post(self._url, json={"model": self._model, "input": list(texts)})
        except httpx.HTTPError as error:
            raise BrogueError(
                f"the embedding server at {self._url} does not answer ({one_line(error, 120)}); "
                "start it, or mend knowledge.embedding_url in brogue.toml"
            ) from error
        if answer.status_code != 200:
            hint = f"; its key belongs into the environment: {KEY}=…" if answer.status_code in (401, 403) else ""
            said = one_line(answer.text, 160)
            raise BrogueError(f"the embedding server at {self._url} answered {answer.status_code}: {said}{hint}")
        try:
            data = sorted(answer.json()["data"], key=lambda item: item["index"])
            vectors = [[float(number) for number in item["embedding"]] for item in data]
        except (ValueError, KeyError, TypeError) as error:
            raise BrogueError(
                f"{self._url} is no OpenAI-compatible embedding server ({one_line(error, 80)})"
            ) from error
        if len(vectors) != len(texts):
            raise BrogueError(f"{self._url}: wanted {len(texts)} vectors, found {len(vectors)}")
        return vectors
