"""The lexical index of a knowledge: BM25 over its passages' words, kept on disk by tantivy and updated in place.

It also holds the passages themselves; the vectors follow it. A commit is all or nothing, also when the process is
killed. One process writes at a time, any number read; a reader sees what others have committed after `refresh`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.chunking import Passage
from data.errors import BrogueError, one_line
from data.settings_knowledge import Language

if TYPE_CHECKING:
    import tantivy

_HEAP_BYTES = 64_000_000  # of the writer, before it puts a segment on disk
_LONGEST_WORD = 80  # bytes; longer ones are no words
_MOST_WORDS = 64  # of a question are looked for, the rarest: who pastes a page must not wait for its every "the"
# Chinese, Japanese and Thai are written without blanks: every sign is a word of its own.
_SIGN = re.compile("([\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")
Filters = Mapping[str, str]  # name → value: "source", or a key of a passage's meta


class LexicalIndex:
    """The index in one folder. `language` decides about word endings and words that carry nothing."""

    def __init__(self, folder: Path, language: Language) -> None:
        import tantivy

        self._folder, self._language = folder, language
        fields = tantivy.SchemaBuilder()
        fields.add_text_field("id", tokenizer_name="raw", index_option="basic", fast=True)
        fields.add_text_field("filter", tokenizer_name="raw", index_option="basic")
        fields.add_text_field("words", tokenizer_name="words", index_option="freq")
        fields.add_text_field("passage", stored=True, tokenizer_name="raw", index_option="basic")
        self._schema = fields.build()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._index = tantivy.Index(self._schema, path=str(folder))
        except ValueError as error:
            raise BrogueError(
                f"{folder}: the index of words cannot be read ({one_line(error, 120)}); "
                "remove the knowledge and add its documents again"
            ) from error
        self._index.register_tokenizer("words", self._analyzer)

    def refresh(self) -> None:
        """See what other processes have committed."""
        self._index.reload()

    def count(self) -> int:
        """How many passages there are."""
        return int(self._index.searcher().num_docs)

    def upsert(self, passages: Sequence[Passage]) -> None:
        """Store passages, in one commit; a known id takes the old one's place."""
        import tantivy

        with self._writing() as writer:
            for passage in passages:
                writer.delete_documents_by_term("id", passage.id)
                document = tantivy.Document()
                document.add_text("id", passage.id)
                for key, value in filterable(passage).items():
                    document.add_text("filter", f"{key}\0{value}")
                document.add_text("words", _SIGN.sub(r" \1 ", passage.searchable()))
                document.add_text("passage", passage.model_dump_json(exclude_defaults=True))
                writer.add_document(document)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove passages, in one commit; unknown ids are no error."""
        with self._writing() as writer:
            for id in ids:
                writer.delete_documents_by_term("id", id)

    def search(self, question: str, limit: int, filters: Filters | None = None) -> list[tuple[Passage, float]]:
        """The passages that hold words of `question`, with their BM25 score, the best first.

        Any text is a question: nothing in it is read as an operator. One word in common is enough.
        """
        import tantivy

        words = list(dict.fromkeys(self._analyzer.analyze(_SIGN.sub(r" \1 ", question))))
        if len(words) > _MOST_WORDS:
            searcher = self._index.searcher()
            held = [word for word in words if searcher.doc_freq("words", word)]
            words = sorted(held, key=lambda word: searcher.doc_freq("words", word))[:_MOST_WORDS]
        if not words:
            return []
        should, must = tantivy.Occur.Should, tantivy.Occur.Must
        terms = [(should, tantivy.Query.term_query(self._schema, "words", word, "freq")) for word in words]
        query = tantivy.Query.boolean_query(terms)
        if filters:
            demanded = [
                tantivy.Query.const_score_query(
                    tantivy.Query.term_query(self._schema, "filter", f"{key}\0{value}", "basic"), 0
                )
                for key, value in filters.items()
            ]
            query = tantivy.Query.boolean_query([(must, query), *((must, one) for one in demanded)])
        return self._find(query, limit)

    def get(self, ids: Sequence[str]) -> dict[str, Passage]:
        """The passages with these ids, as far as they are there."""
        import tantivy

        if not ids:
            return {}
        query = tantivy.Query.term_set_query(self._schema, "id", list(ids))
        return {passage.id: passage for passage, _ in self._find(query, len(ids))}

    def all(self) -> Iterator[Passage]:
        """Every passage, in no particular order."""
        import tantivy

        searcher = self._index.searcher()
        if searcher.num_docs:
            for _, address in searcher.search(tantivy.Query.all_query(), searcher.num_docs, count=False).hits:
                yield _read(searcher.doc(address))

    def _find(self, query: "tantivy.Query", limit: int) -> list[tuple[Passage, float]]:
        searcher = self._index.searcher()
        # Without the count tantivy may skip what cannot be among the best.
        hits = searcher.search(query, limit, count=False).hits
        found = [(_read(searcher.doc(address)), float(score)) for score, address in hits]
        return sorted(found, key=lambda one: (-one[1], one[0].id))  # equals stand in no order that could be told

    @cached_property
    def _analyzer(self) -> "tantivy.TextAnalyzer":
        import tantivy

        chain = (
            tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
            .filter(tantivy.Filter.remove_long(_LONGEST_WORD))
            .filter(tantivy.Filter.lowercase())
        )
        if self._language != "none":
            if self._language in _WITH_STOPWORDS:
                chain = chain.filter(tantivy.Filter.stopword(self._language))
            chain = chain.filter(tantivy.Filter.stemmer(self._language))
        return chain.filter(tantivy.Filter.ascii_fold()).build()

    @contextmanager
    def _writing(self) -> Iterator["tantivy.IndexWriter"]:
        try:
            writer = self._index.writer(_HEAP_BYTES, 1)
            try:
                yield writer
                writer.commit()
            finally:
                writer.wait_merging_threads()  # also lets go of the lock; what is not committed is forgotten
        except (ValueError, OSError) as error:  # tantivy's ValueError: no room on the disk, another writer
            raise BrogueError(
                f"{self._folder}: the index of words cannot be written ({one_line(error, 120)}); "
                "make room, or wait until another process is done, and run it again"
            ) from error
        self._index.reload()


_WITH_STOPWORDS = {
    "danish", "dutch", "english", "finnish", "french", "german", "hungarian", "italian", "norwegian", "portuguese",
    "russian", "spanish", "swedish",
}  # fmt: skip


def filterable(passage: Passage) -> dict[str, str]:
    """What a passage can be filtered by."""
    return passage.meta | {"source": passage.source}


def _read(document: Any) -> Passage:
    return Passage.model_validate_json(document.get_first("passage"))
