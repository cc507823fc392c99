"""What records look like in the files that people have: recognised by their first row, turned into our fields.

A `Format` gives drafts, dictionaries of a record's fields; data/importing.py makes records of them, so that one faulty
reply in a tree is one fault. `GENERIC` takes our own fields, which any column may be renamed to.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from data.records import Kind

Row = dict[str, Any]
Draft = dict[str, Any]
Convert = Callable[[Row], Iterable[Draft]]
Group = Callable[[Row], Any]

_ROLES = {"human": "user", "prompter": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant",
          "bard": "assistant", "model": "assistant", "developer": "system"}  # fmt: skip
_TRANSCRIPT = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_TRANSCRIPT_COLUMNS = ("transcript", "text", "conversation", "chat", "chosen")
_PAIRS = (("response1", "response2"), ("response_1", "response_2"), ("output_1", "output_2"),
          ("response_a", "response_b"), ("answer_a", "answer_b"))  # fmt: skip
_VOTE = re.compile(r"annotator_?\d+|label|winner|preference")
_VOTES = {"0": "tie", "tie": "tie", "1": "first", "a": "first", "model_a": "first", "2": "second", "b": "second",
          "model_b": "second"}  # fmt: skip


@dataclass(frozen=True)
class Format:
    """One way of writing records. The first of `kinds` is taken when none was asked for."""

    name: str
    matches: Callable[[Row], bool]
    kinds: dict[Kind, Convert]
    group: Group | None = None  # the name of what a row's records share, for formats with several records a row


def need(row: Row, name: str) -> Any:
    """A field that has to be there."""
    if name not in row:
        raise ValueError(f"no '{name}' in this record")
    return row[name]


def _messages(turns: Any, role: str = "role", content: str = "content") -> list[Row]:
    """Turns as messages with our roles; a list as JSON text (in a CSV cell) is read too."""
    if isinstance(turns, str):
        turns = json.loads(turns)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError("wanted a list of messages, each with its role and content")
    return [{"role": _ROLES.get(need(turn, role), turn[role]), "content": _text(need(turn, content))} for turn in turns]


def _text(content: Any) -> Any:
    """OpenAI's content in parts as one text, as far as it is text."""
    if isinstance(content, list) and all(isinstance(p, dict) and p.get("type") == "text" for p in content):
        return "".join(str(part.get("text", "")) for part in content)
    return content


def _with_input(row: Row, instruction: str = "instruction") -> Any:
    extra = row.get("input")
    return (
        f"{need(row, instruction)}\n\n{extra}" if isinstance(extra, str) and extra.strip() else need(row, instruction)
    )


def _prompt(row: Row) -> list[Row]:
    """The conversation before the answers: messages, or one question with its system message."""
    prompt = row["messages"] if "messages" in row else need(row, "prompt")
    if isinstance(prompt, list):
        return _messages(prompt)
    system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    return [*system, {"role": "user", "content": prompt}]


def _chat(row: Row) -> Iterator[Draft]:
    yield {"messages": _messages(need(row, "messages"))}


def _instruction(row: Row) -> Iterator[Draft]:
    yield {"prompt": need(row, "prompt"), "response": need(row, "response"), "system": row.get("system") or None}


def _labelled(row: Row) -> Iterator[Draft]:
    if "tokens" in row:
        yield {"tokens": row["tokens"], "tags": [str(tag) for tag in need(row, "tags")]}
    else:
        label = need(row, "label")
        yield {"text": need(row, "text"), "label": str(label) if isinstance(label, int) else label}


def _preference(row: Row) -> Iterator[Draft]:
    chosen, rejected = need(row, "chosen"), need(row, "rejected")
    if isinstance(chosen, list) and isinstance(rejected, list):
        chosen, rejected = _messages(chosen), _messages(rejected)
        yield _pair(chosen, rejected) if len(chosen) > 1 else _pair(_prompt(row) + chosen, _prompt(row) + rejected)
    else:
        yield {"messages": _prompt(row), "chosen": chosen, "rejected": rejected, "tie": bool(row.get("tie"))}


def _pair(chosen: list[Row], rejected: list[Row]) -> Draft:
    """Two whole conversations that differ in their last answer alone."""
    if not chosen or not rejected or chosen[:-1] != rejected[:-1]:
        raise ValueError("chosen and rejected part before their last answers")
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        raise ValueError("chosen or rejected does not end with the assistant")
    return {"messages": chosen[:-1], "chosen": chosen[-1]["content"], "rejected": rejected[-1]["content"]}


def _ranking(row: Row) -> Iterator[Draft]:
    ranks = need(row, "ranks")
    if not isinstance(ranks, list) or not all(isinstance(rank, int) for rank in ranks):
        raise ValueError("ranks: wanted a list of whole numbers, the smallest for the best")
    order = sorted(set(ranks))  # files count from 0 or 1, some with gaps after a tie
    yield {"messages": _prompt(row), "replies": need(row, "replies"), "ranks": [order.index(rank) for rank in ranks]}


def _rated(row: Row) -> Iterator[Draft]:
    yield {"messages": _messages(need(row, "messages")), "good": need(row, "good")}


def _trl_kto(row: Row) -> Iterator[Draft]:
    said = need(row, "completion")
    answer = _messages(said) if isinstance(said, list) else [{"role": "assistant", "content": said}]
    yield {"messages": _prompt(row) + answer, "good": need(row, "label")}


def _openai_dpo(row: Row) -> Iterator[Draft]:
    before = _messages(need(need(row, "input"), "messages"))
    yield _pair(
        before + _messages(need(row, "preferred_output")), before + _messages(need(row, "non_preferred_output"))
    )


def _sharegpt(row: Row) -> Iterator[Draft]:
    system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    yield {"messages": system + _messages(need(row, "conversations"), "from", "value")}


def _alpaca(row: Row) -> Iterator[Draft]:
    yield {"prompt": _with_input(row), "response": need(row, "output"), "system": row.get("system") or None}


def _self_instruct(row: Row) -> Iterator[Draft]:
    for instance in need(row, "instances"):
        yield {"prompt": _with_input({**instance, **row}), "response": need(instance, "output")}


def _squad(row: Row) -> Iterator[Draft]:
    """A question after its paragraph, with the first of the answers; one without an answer is a faulty record."""
    for paragraph in need(row, "paragraphs"):
        for qa in need(paragraph, "qas"):
            answers = qa.get("answers") or [{"text": ""}]
            prompt = f"{need(paragraph, 'context')}\n\n{need(qa, 'question')}"
            yield {"prompt": prompt, "response": need(answers[0], "text")}


def _is_transcript(text: Any) -> bool:
    return isinstance(text, str) and {"Human", "Assistant"} <= set(_TRANSCRIPT.findall(text))


def _transcript(text: Any) -> list[Row]:
    if not isinstance(text, str):
        raise ValueError("wanted a text with 'Human:' and 'Assistant:' turns")
    before, *parts = _TRANSCRIPT.split(text)
    system = [{"role": "system", "content": before.strip()}] if before.strip() else []
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [*system, *({"role": "user" if w == "Human" else "assistant", "content": t.strip()} for w, t in turns)]


def _transcript_of(row: Row) -> Any:
    if "prompt" in row and "completion" in row:
        return f"{row['prompt']}{row['completion']}"
    return next((row[c] for c in _TRANSCRIPT_COLUMNS if c in row), None)


def _anthropic(row: Row) -> Iterator[Draft]:
    yield {"messages": _transcript(_transcript_of(row))}


def _anthropic_pairs(row: Row) -> Iterator[Draft]:
    yield _pair(_transcript(need(row, "chosen")), _transcript(need(row, "rejected")))


def _oasst_rankings(row: Row) -> Iterator[Draft]:
    """Every turn of the person's to which volunteers ranked several answers."""
    for path, replies in _oasst_turns(need(row, "prompt"), []):
        ranked = sorted((r for r in replies if r.get("rank") is not None), key=lambda r: int(r["rank"]))
        if path[-1]["role"] == "user" and len(ranked) > 1:
            ranks = sorted({r["rank"] for r in ranked})
            yield {"messages": path, "replies": [r["text"] for r in ranked],
                   "ranks": [ranks.index(r["rank"]) for r in ranked]}  # fmt: skip


def _oasst_chat(row: Row) -> Iterator[Draft]:
    """The conversation that follows the best answer at every turn."""
    messages, node = list[Row](), need(row, "prompt")
    while node:
        messages += _messages([node], "role", "text")
        node = min(
            node.get("replies") or [], key=lambda r: r["rank"] if r.get("rank") is not None else 99, default=None
        )
    if messages[-1]["role"] == "user":
        messages.pop()  # asked and never answered
    if messages:
        yield {"messages": messages}


def _oasst_turns(node: Row, before: list[Row]) -> Iterator[tuple[list[Row], list[Row]]]:
    path = [*before, *_messages([node], "role", "text")]
    replies = node.get("replies") or []
    yield path, replies
    for reply in replies:
        yield from _oasst_turns(reply, path)


def _pair_columns(row: Row) -> tuple[str, str] | None:
    return next(((a, b) for a, b in _PAIRS if a in row and b in row), None)


def _votes(row: Row) -> list[str]:
    names = [name for name in row if _VOTE.fullmatch(name)]
    wrong = next((name for name in names if str(row[name]).lower() not in _VOTES), None)
    if wrong:
        raise ValueError(f"{wrong} is '{row[wrong]}', wanted 1 or 2 for the better answer, 0 or 'tie' for neither")
    return [_VOTES[str(row[name]).lower()] for name in names]


def _voted_pairs(row: Row) -> Iterator[Draft]:
    """Two answers and whom one or several people preferred; without one most frequent vote it is a tie."""
    columns = _pair_columns(row)
    votes = Counter(_votes(row)).most_common(2)
    if columns is None or not votes:
        raise ValueError("wanted two answers (response1, response2) and a vote (label, winner, annotator1, …)")
    even = len(votes) > 1 and votes[0][1] == votes[1][1]
    verdict = "tie" if even else votes[0][0]
    chosen, rejected = (row[c] for c in (reversed(columns) if verdict == "second" else columns))
    name = next((n for n in ("instruction", "prompt", "question", "input") if n in row), "prompt")
    prompt = _with_input(row, name) if name == "instruction" else need(row, name)
    yield {"messages": [{"role": "user", "content": prompt}], "chosen": chosen, "rejected": rejected,
           "tie": verdict == "tie"}  # fmt: skip


def _has_turns(row: Row, column: str, key: str) -> bool:
    turns = row.get(column)
    return isinstance(turns, list) and bool(turns) and isinstance(turns[0], dict) and key in turns[0]


# From the most telling to the least: the first that matches the first row is taken.
FORMATS: tuple[Format, ...] = (
    Format("trl-kto", lambda row: {"prompt", "completion"} <= row.keys() and isinstance(row.get("label"), bool),
           {"rated": _trl_kto}),
    Format("openai-dpo", lambda row: {"preferred_output", "non_preferred_output"} <= row.keys(),
           {"preference": _openai_dpo}),
    Format("oasst-tree", lambda row: isinstance(row.get("prompt"), dict) and "replies" in row["prompt"],
           {"ranking": _oasst_rankings, "chat": _oasst_chat}, lambda row: row.get("message_tree_id")),
    Format("sharegpt", lambda row: _has_turns(row, "conversations", "from"), {"chat": _sharegpt}),
    Format("anthropic-pairs", lambda row: _is_transcript(row.get("chosen")) and _is_transcript(row.get("rejected")),
           {"preference": _anthropic_pairs, "chat": _anthropic}),
    Format("anthropic", lambda row: _is_transcript(_transcript_of(row)), {"chat": _anthropic}),
    Format("self-instruct", lambda row: "instruction" in row and isinstance(row.get("instances"), list),
           {"instruction": _self_instruct}, lambda row: row.get("id")),
    Format("squad", lambda row: _has_turns(row, "paragraphs", "qas"), {"instruction": _squad},
           lambda row: row.get("title")),
    Format("voted-pairs", lambda row: _pair_columns(row) is not None and any(map(_VOTE.fullmatch, row)),
           {"preference": _voted_pairs}),
    Format("alpaca", lambda row: {"instruction", "input", "output"} <= row.keys(), {"instruction": _alpaca}),
    Format("openai-chat", lambda row: _has_turns(row, "messages", "role") and
           not row.keys() & {"replies", "chosen", "good"}, {"chat": _chat}),
)  # fmt: skip
GENERIC: dict[Kind, Convert] = {
    "instruction": _instruction, "chat": _chat, "labelled": _labelled, "preference": _preference, "ranking": _ranking,
    "rated": _rated,
}  # fmt: skip
