"""Passages: what an assistant's documents are cut into, to be found and cited.

A document comes from assistant/loaders.py as text in blocks; passages are made of whole blocks, measured in the
tokens of the embedding model.
"""

import hashlib

from data.settings import Frozen


class Passage(Frozen):
    """One piece of a document.

    `text` is `document[start:end]`, in a split table after its repeated header row: text.endswith(document[start:end]).
    Two passages with one id have the same `searchable()` text, so an id that is known need not be embedded again;
    its page and span may have moved, so they are written again.
    """

    id: str  # 32 hex digits: see passage_id
    source: str  # path relative to what was added, with '/'
    title: str  # the document's, else its file name
    section: str = ""  # headings above it, the outermost first: "Returns > Damaged goods"
    page: int | None = None  # of a PDF, the first is 1: where the passage begins
    start: int  # characters in the document's extracted text
    end: int
    text: str
    sha256: str  # of `text`: equal for equal passages of different documents
    meta: dict[str, str] = {}  # to filter by: "type" (pdf, markdown, …), and what a CSV or JSONL row brings along

    def searchable(self) -> str:
        """What is embedded and indexed: the text under its title and section, where it does not begin with them."""
        above = [line for line in (self.title, self.section.rpartition(" > ")[2]) if line and line not in self.text]
        return "\n".join([*dict.fromkeys(above), self.text])


def passage_id(source: str, title: str, section: str, text: str, nth: int) -> str:
    """A passage's id; `nth` counts passages of one source that are otherwise equal, from 0.

    It is not the place in the document: a paragraph put in front must not rename all that follow.
    """
    whole = "\0".join((source, title, section, str(nth), text))
    return hashlib.sha256(whole.encode()).hexdigest()[:32]
