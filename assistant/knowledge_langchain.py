"""A knowledge as a LangChain retriever, for chains of one's own.

retriever = as_retriever(open_knowledge(home, "acme", settings, embedder), settings)
retriever.invoke("How long may I keep a plant before I send it back?")
"""

from typing import TYPE_CHECKING

from assistant.knowledge_store import KnowledgeStore
from assistant.lexical import Filters
from assistant.retrieval import Hit, search
from data.settings_knowledge import KnowledgeSettings

if TYPE_CHECKING:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever


def as_retriever(
    store: KnowledgeStore, settings: KnowledgeSettings, limit: int = 5, filters: Filters | None = None
) -> "BaseRetriever":
    """Our search behind LangChain's interface; a document's metadata hold where the passage stands and its scores."""
    from langchain_core.retrievers import BaseRetriever

    class KnowledgeRetriever(BaseRetriever):
        def _get_relevant_documents(
            self,
            query: str,
            *,
            run_manager: "CallbackManagerForRetrieverRun",  # noqa: ARG002
        ) -> "list[Document]":
            return [_document(hit) for hit in search(store, query, settings, limit, filters).hits]

    return KnowledgeRetriever(name=f"knowledge {store.name}")


def _document(hit: Hit) -> "Document":
    from langchain_core.documents import Document

    place = hit.passage.model_dump(exclude={"id", "text", "meta"}, exclude_none=True)
    scores = hit.model_dump(include={"score", "cosine", "bm25", "rerank"}, exclude_none=True)
    return Document(id=hit.passage.id, page_content=hit.passage.text, metadata=hit.passage.meta | place | scores)
