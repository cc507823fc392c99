"""The vectors of a knowledge, in Chroma: in the home folder, or on a Chroma server.

A collection holds ids, vectors and what can be filtered by; the passages are in the lexical index. Which model made
the vectors stands in the collection's metadata. Chroma in one process does not see what another one has written until
it is opened anew: `refresh` does that.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from data.errors import BrogueError, one_line

if TYPE_CHECKING:
    import numpy as np
    from chromadb.api.client import Client
    from chromadb.api.models.Collection import Collection

TOKEN = "BROGUE_CHROMA_TOKEN"  # in the environment: the bearer token of the Chroma server
# A wider search than Chroma's own 100: the graph then finds nearly all that an exact search finds.
_HNSW = {"space": "cosine", "ef_construction": 128, "ef_search": 200, "max_neighbors": 16}
_PAGE = 10_000  # ids in one answer
Metadata = Mapping[str, str | int]


class Vectors:
    """One collection. All calls but `search` are for the one process that writes."""

    def __init__(self, folder: Path, url: str | None, collection: str, about: Metadata) -> None:
        """Open the collection, or make it with `about` as its metadata."""
        self._folder, self._url, self._name, self._about = folder, url, collection, dict(about)
        self._open()

    @property
    def about(self) -> dict[str, Any]:
        """What was said of the vectors when the collection was made."""
        return dict(self._collection.metadata or {})

    def refresh(self) -> None:
        """See what other processes have written."""
        if self._url is None:
            self.close()
            self._open()

    def close(self) -> None:
        """Let go of files and memory."""
        self._client.close()

    def count(self) -> int:
        """How many vectors there are."""
        with self._asking():
            return int(self._collection.count())

    def known(self, ids: Sequence[str]) -> set[str]:
        """Those of `ids` that have a vector."""
        with self._asking():
            return set(self._collection.get(ids=list(ids), include=[])["ids"]) if ids else set()

    def ids(self) -> set[str]:
        """All ids."""
        found: set[str] = set()
        with self._asking():
            while page := self._collection.get(limit=_PAGE, offset=len(found), include=[])["ids"]:
                found.update(page)
        return found

    def upsert(self, ids: Sequence[str], vectors: "np.ndarray[Any, Any]", about: Sequence[Metadata]) -> None:
        """Store vectors, (len(ids), dimension), each with what it can be filtered by."""
        with self._asking():
            for begin in range(0, len(ids), 1000):
                part = slice(begin, begin + 1000)
                some: Any = [dict(one) for one in about[part]]
                self._collection.upsert(ids=list(ids[part]), embeddings=vectors[part], metadatas=some)

    def describe(self, ids: Sequence[str], about: Sequence[Metadata]) -> None:
        """Change what known ids can be filtered by."""
        with self._asking():
            if ids:
                self._collection.update(ids=list(ids), metadatas=[dict(one) for one in about])

    def delete(self, ids: Sequence[str]) -> None:
        """Remove vectors; unknown ids are no error."""
        with self._asking():
            for begin in range(0, len(ids), 1000):
                self._collection.delete(ids=list(ids[begin : begin + 1000]))

    def search(
        self, vector: "np.ndarray[Any, Any]", limit: int, filters: Mapping[str, str] | None = None
    ) -> list[tuple[str, float]]:
        """The ids nearest to `vector` (dimension,), with the cosine, the nearest first."""
        equal: list[Any] = [{key: {"$eq": value}} for key, value in (filters or {}).items()]
        where = {"$and": equal} if len(equal) > 1 else equal[0] if equal else None
        with self._asking():
            found = self._collection.query(
                query_embeddings=vector[None], n_results=limit, where=where, include=["distances"]
            )
        distances = (found["distances"] or [[]])[0]
        near = [(id, 1.0 - float(distance)) for id, distance in zip(found["ids"][0], distances, strict=True)]
        return sorted(near, key=lambda one: (-one[1], one[0]))

    def drop_others(self) -> None:
        """Remove all other collections in the folder. A server's are left alone: they may be another home's."""
        with self._asking():
            for other in self._client.list_collections() if self._url is None else ():
                if other.name != self._name:
                    self._client.delete_collection(other.name)

    def drop(self, collection: str) -> None:
        """Remove a collection; one that is not there is no error."""
        from chromadb.errors import NotFoundError

        with self._asking():
            try:
                self._client.delete_collection(collection)
            except NotFoundError:
                pass

    def _open(self) -> None:
        options: Any = {"hnsw": _HNSW}
        with self._asking():
            self._client = connect(self._folder, self._url)
            try:
                # embedding_function=None: Chroma's own would download a model.
                self._collection: Collection = self._client.get_or_create_collection(
                    self._name, metadata=self._about or None, embedding_function=None, configuration=options
                )
            except BaseException:
                self._client.close()  # else Chroma would give the same, broken one for this folder again and again
                raise

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Chroma's and the file system's refusals as one line."""
        from chromadb.errors import ChromaError

        try:
            yield
        except (ChromaError, ValueError, OSError) as error:
            mend = "make them again: brogue knowledge reindex NAME" if self._url is None else "is the server up?"
            where = self._url or self._folder
            raise BrogueError(f"the vectors in {where} cannot be used ({one_line(error, 160)}); {mend}") from error


def connect(folder: Path, url: str | None) -> "Client":
    """A client of the Chroma in `folder`, or of the server at `url`."""
    import chromadb
    from chromadb.api.shared_system_client import SharedSystemClient
    from chromadb.config import Settings

    quiet = Settings(anonymized_telemetry=False)
    if url is None:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return cast("Client", chromadb.PersistentClient(str(folder), quiet))
        except BaseException:
            # Chroma keeps what could not be started, and gives it to the next who opens the folder.
            SharedSystemClient._identifier_to_system.pop(str(folder), None)
            raise
    parts = urlsplit(url)
    token = os.environ.get(TOKEN, "").strip()
    client = chromadb.HttpClient(
        host=parts.hostname or "", port=parts.port or (443 if parts.scheme == "https" else 80),
        ssl=parts.scheme == "https", headers={"Authorization": f"Bearer {token}"} if token else {}, settings=quiet,
    )  # fmt: skip
    return cast("Client", client)
