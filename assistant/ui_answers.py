"""What the page does with the gateway, without Gradio: the messages to send, and answers as they grow.

A problem on the way (gateway gone, engine died in the middle) is part of the answer, not an exception: the partial
text stays and a sentence for a support lead says what happened. So nothing above this module has to handle errors.
"""

import logging
import re
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from assistant.client import Client, GatewayError, Source

STEP_S = 0.1  # seconds
NOTICE = "notice"  # metadata id of a message that the page wrote itself
JOINER = "\u2060"  # of no width: behind a "<" it keeps Markdown from reading a tag, which the page would leave out
_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]+`)", re.DOTALL)  # there tags are text anyway

Message = dict[str, Any]  # as Gradio's Chatbot holds it: role, content, metadata


@dataclass(frozen=True)
class Answer:
    """The text so far; `problem` is set on the last one if the answer could not be finished.

    `checked` is set on the last one of an answer from documents: the gateway's field `brogue`.
    """

    text: str = ""
    problem: str | None = None
    source: Source = Source()
    checked: dict[str, Any] | None = None


def growing_answer(client: Client, assistant: str, messages: list[dict[str, str]], **options: Any) -> Generator[Answer]:
    """One answer as it grows; the last one is complete or carries the problem. Never raises."""
    text, sources = "", [Source()]
    checked: list[dict[str, Any]] = []
    try:
        for piece in client.stream_chat(assistant, messages, sources.append, checked.append, **options):
            text += piece
            yield Answer(text, None, sources[-1])
        problem = None if text.strip() else "The assistant sent an empty answer. Please ask again."
    except GatewayError as error:
        problem = _what_happened(text, str(error))
    except Exception:  # the edge of the page: a bug must not leave a visitor with a page that waits for ever
        logging.exception("an answer of %s failed", assistant)
        problem = _what_happened(text, "something unexpected happened, the log has the details")
    yield Answer(text, problem, sources[-1], checked[-1] if checked else None)


def side_by_side(answers: Sequence[Generator[Answer]]) -> Iterator[tuple[Answer, ...]]:
    """Several answers growing at the same time; each step is the latest of all of them.

    There is a step every `STEP_S` seconds even without news: between steps it can be closed, however long an engine
    keeps silent, so that Stop does not have to wait for the next word.
    """
    latest = [Answer()] * len(answers)
    news: SimpleQueue[tuple[int, Answer | None]] = SimpleQueue()
    stopped = threading.Event()

    def pump(side: int) -> None:
        with closing(answers[side]) as growing:
            for answer in growing:
                if stopped.is_set():
                    break
                news.put((side, answer))
        news.put((side, None))

    for side in range(len(answers)):
        # Daemons: after Stop a thread may still wait for its engine's next word, which must not hold up the exit.
        threading.Thread(target=pump, args=(side,), daemon=True).start()
    try:
        running = len(answers)
        while running:
            with suppress(Empty):
                side, answer = news.get(timeout=STEP_S)
                if answer is None:
                    running -= 1
                    continue
                latest[side] = answer
            yield tuple(latest)
    finally:
        stopped.set()


def conversation(history: Sequence[Message]) -> list[dict[str, str]]:
    """The messages to send: role and text only, without the page's own notices.

    Questions that got no answer at all are joined with the next one: many chat templates want the roles to alternate.
    """
    sent: list[dict[str, str]] = []
    for message in history:
        if is_notice(message):
            continue
        text = plain_text(message["content"])
        if sent and sent[-1]["role"] == message["role"]:
            sent[-1]["content"] += "\n\n" + text
        else:
            sent.append({"role": message["role"], "content": text})
    return sent


def plain_text(content: Any) -> str:
    """The text of a message's content, which Gradio sends as a string or as a list of parts."""
    parts = content if isinstance(content, list) else [content]
    return "\n".join(filter(None, map(text_of, parts))).replace(f"<{JOINER}", "<")


def tags_shown(text: str) -> str:
    """`text` as Markdown in which HTML's tags are shown as they were written; `plain_text` undoes it."""
    parts = _CODE.split(text)
    parts[::2] = [re.sub(r"<(?=[A-Za-z/!?])", f"<{JOINER}", part) for part in parts[::2]]
    return "".join(parts)


def text_of(part: Any) -> str:
    """A part's text; none if it is a component, such as the sources under an answer."""
    if isinstance(part, str):
        return part
    return str(part.get("text") or "") if isinstance(part, dict) else ""


def as_text(text: str) -> str:
    """`text` as Markdown that shows it letter by letter."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", text)


def is_notice(message: Message) -> bool:
    """Whether the page wrote this message itself, so that it is no part of the conversation."""
    return (message.get("metadata") or {}).get("id") == NOTICE


def _what_happened(text: str, reason: str) -> str:
    verb = "stopped answering" if text else "could not answer"
    advice = "" if "again" in reason else " Try again in a minute."
    return f"The assistant {verb}: {reason.rstrip('.')}.{advice}"
