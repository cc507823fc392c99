"""The `[knowledge]` part of `brogue.toml`: the embedding model, where vectors lie, how passages are found."""

from typing import Literal, Self

from pydantic import Field, model_validator

from data.frozen import STARTER_MODEL, Frozen

Precision = Literal["auto", "float32", "bfloat16", "int8"]
# The languages whose word endings the lexical index knows.
Language = Literal[
    "none", "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish",
]  # fmt: skip


class KnowledgeSettings(Frozen):
    """How documents are stored and found. A change of the embedding model or the language needs a reindex."""

    embedding_model: str = Field(
        STARTER_MODEL,
        description="'starter', a sentence-transformers folder or hub id, or the name at embedding_url",
    )
    embedding_url: str | None = Field(
        None, pattern=r"^https?://", description="an OpenAI-compatible API, such as http://127.0.0.1:9000/v1"
    )
    embedding_onnx: str | None = Field(None, description="an int8 ONNX file of the same model; the starter has its own")
    precision: Precision = Field("auto", description="auto: the fastest that this machine has, see docs/knowledge.md")
    chroma_url: str | None = Field(None, pattern=r"^https?://", description="a Chroma server; none: in the home folder")
    language: Language = Field("english", description="of the documents; none: words are taken as they stand")
    candidates: int = Field(100, ge=1, le=1000, description="passages that each of the two searches proposes")
    dense_weight: float = Field(0.5, ge=0, le=1, description="of the vectors' ranks; the words' ranks have the rest")
    fold: bool = Field(True, description="of passages that say the same, show the best and name the others")
    reranker: str | None = Field(None, description="a cross-encoder's folder or Hugging Face id; none: not reranked")

    @model_validator(mode="after")
    def _a_url_needs_a_model(self) -> Self:
        if self.embedding_url and self.embedding_model == STARTER_MODEL:
            raise ValueError("embedding_url needs embedding_model: the name of the model that is asked for there")
        return self
