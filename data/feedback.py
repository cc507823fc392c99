"""Rows for a dataset from what people said of answers: the store in, records of one kind out.

A thumb up and a correction give an answer worth learning (`chat`, `instruction`); thumbs of either sort give a `rated`
answer; a comparison, or a correction against what it corrects, gives a preference; a ranking gives a ranking. Every row
says whose words it holds and which answers it was made from, so that both can be found again.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from data.ahead import Ahead, Find, Load
from data.dataset import Row, Shares
from data.judgements import AnyJudgement, Comparison, Correction, Ranking, Rating, Response
from data.records import (
    AnyRecord,
    ChatRecord,
    InstructionRecord,
    PreferenceRecord,
    RankingRecord,
    RatedRecord,
    assign_split,
    record_id,
)

Collected = Literal["chat", "instruction", "preference", "ranking", "rated"]
_TOLD_BY: dict[Collected, tuple[type[AnyJudgement], ...]] = {
    "chat": (Rating, Correction), "instruction": (Rating, Correction), "preference": (Comparison, Correction),
    "ranking": (Ranking,), "rated": (Rating,),
}  # fmt: skip
LIGHTER = "weigh less than 1"  # rows, among the counts


class Skipped(Exception):
    """Why nothing can be learnt from a judgement."""


class Pair(NamedTuple):
    """A record, and the answers that it was made from; the first one says whose words it holds."""

    record: AnyRecord
    responses: tuple[Response, ...]


class Told(NamedTuple):
    """A record, the answers that it was made from, and the raters who said so."""

    record: AnyRecord
    responses: tuple[Response, ...]
    raters: tuple[str, ...]


def rows(judgements: Iterable[AnyJudgement], load: Load, kind: Collected, shares: Shares, counts: Counter[str],
         weights: Mapping[str, float]) -> Iterator[Row]:  # fmt: skip
    """A row for each judgement that gives a record of this kind, oldest first; `counts` is told what became of each.

    `judgements` are those that stand, oldest first. Raters who are not in `weights` weigh 1; a row weighs as much as
    those who said so do on average, and who weighs 0 gives none.
    """
    for record, responses, raters in told(judgements, load, kind, counts, weights):
        first, weight = responses[0], weight_of(raters, weights)
        counts[LIGHTER] += weight < 1
        yield Row(
            id=record_id(record),
            split=assign_split(record, shares),
            record=record,
            group=first.conversation,
            subject=first.subject,
            response_ids=tuple(response.id for response in responses),
            weight=weight,
        )


def told(judgements: Iterable[AnyJudgement], load: Load, kind: Collected, counts: Counter[str],
         weights: Mapping[str, float]) -> Iterator[Told]:  # fmt: skip
    """What judgements say that gives a record of this kind; `counts` is told what became of each."""
    given = [judgement for judgement in judgements if isinstance(judgement, _TOLD_BY[kind])]
    for make, raters in _makers(given, Ahead(given, load), kind):
        try:
            if weight_of(raters, weights) == 0:
                raise Skipped("the rater weighs nothing")
            record, responses = make()
        except Skipped as why:
            counts[f"skipped: {why}"] += 1
        except ValidationError:
            counts["skipped: not a conversation of user and assistant in turn"] += 1
        else:
            counts["kept"] += 1
            yield Told(record, responses, raters)


def _makers(judgements: list[AnyJudgement], find: Find,
            kind: Collected) -> Iterator[tuple[Callable[[], Pair], tuple[str, ...]]]:  # fmt: skip
    """How each record is made, and who said so."""
    if kind in ("chat", "instruction"):
        for response_id, (better, raters) in _good_answers(judgements).items():
            yield partial(_answer, response_id, better, find, kind), raters
    if kind == "rated":
        for response_id, balance in thumbs(judgements).items():
            yield partial(_rated, response_id, balance, find), balance.raters
    for judgement in judgements:
        if kind == "preference" and isinstance(judgement, Comparison):
            yield partial(_compared, judgement, find), (judgement.rater,)
        elif kind == "preference" and isinstance(judgement, Correction):
            yield partial(_corrected, judgement, find), (judgement.rater,)
        elif kind == "ranking" and isinstance(judgement, Ranking):
            yield partial(_ranked, judgement, find), (judgement.rater,)


def _good_answers(judgements: list[AnyJudgement]) -> dict[str, tuple[str | None, tuple[str, ...]]]:
    """Responses worth learning, in the order in which they were first judged: their latest correction, who said so."""
    good: dict[str, tuple[str | None, tuple[str, ...]]] = {}
    corrections = {j.response: j for j in judgements if isinstance(j, Correction)}
    balances = thumbs(judgements)
    for judgement in judgements:
        if isinstance(judgement, Rating | Correction):
            correction = corrections.get(judgement.response)
            if correction:
                good[judgement.response] = correction.text, (correction.rater,)
            elif (balance := balances[judgement.response]).up:
                good[judgement.response] = None, balance.raters
    return good


def weight_of(raters: Sequence[str], weights: Mapping[str, float]) -> float:
    """The mean weight of those who said something; who is not in `weights` weighs 1."""
    return sum(weights.get(rater, 1.0) for rater in raters) / len(raters) if raters else 1.0


class Thumbs(NamedTuple):
    """How the thumbs on one answer stand."""

    balance: int  # ups less downs
    ups: tuple[str, ...]  # raters
    downs: tuple[str, ...]

    @property
    def up(self) -> bool:
        return self.balance > 0

    @property
    def raters(self) -> tuple[str, ...]:
        """Those who said what the balance says."""
        return self.ups if self.up else self.downs


def thumbs(judgements: Iterable[AnyJudgement]) -> dict[str, Thumbs]:
    """Response → its thumbs, in the order in which responses were first judged."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for judgement in judgements:
        if isinstance(judgement, Rating):
            ups, downs = found.setdefault(judgement.response, ([], []))
            (ups if judgement.thumb == "up" else downs).append(judgement.rater)
    return {r: Thumbs(len(ups) - len(downs), tuple(ups), tuple(downs)) for r, (ups, downs) in found.items()}


def _answer(response_id: str, better: str | None, find: Find, kind: Collected) -> Pair:
    response = find(response_id)
    messages = messages_of(response)
    said = response.text if better is None else better
    if kind == "chat":
        return Pair(ChatRecord(messages=(*messages, {"role": "assistant", "content": said})), (response,))
    system = messages[0]["content"] if messages[0]["role"] == "system" else None
    turns = messages[1:] if system is not None else messages
    if len(turns) != 1 or turns[0]["role"] != "user":
        raise Skipped("more than one question, so it is no instruction; collect it --as chat")
    return Pair(InstructionRecord(prompt=turns[0]["content"], response=said, system=system), (response,))


def _rated(response_id: str, balance: Thumbs, find: Find) -> Pair:
    if balance.balance == 0:
        raise Skipped("as many thumbs up as down")
    response = find(response_id)
    if not response.text.strip():
        raise Skipped("the answer is empty")
    messages = (*messages_of(response), {"role": "assistant", "content": response.text})
    return Pair(RatedRecord(messages=messages, good=balance.up), (response,))


def _compared(judgement: Comparison, find: Find) -> Pair:
    if judgement.verdict == "both-bad":
        raise Skipped("both answers were bad")
    first, second = (find(response) for response in judgement.shown)
    if second.messages != first.messages:
        raise Skipped("the answers are to different questions")
    if judgement.verdict == "second":
        first, second = second, first
    return _preference(first, first.text, second.text, (first, second), judgement.verdict == "tie")


def _corrected(judgement: Correction, find: Find) -> Pair:
    response = find(judgement.response)
    if judgement.text.strip() == response.text.strip():
        raise Skipped("the correction changes nothing")
    return _preference(response, judgement.text, response.text, (response,), tie=False)


def _preference(asked: Response, chosen: str, rejected: str, made_of: tuple[Response, ...], tie: bool) -> Pair:
    if chosen == rejected and not tie:
        raise Skipped("both answers are the same text")
    record = PreferenceRecord(messages=messages_of(asked), chosen=chosen, rejected=rejected, tie=tie)
    return Pair(record, made_of)


def _ranked(judgement: Ranking, find: Find) -> Pair:
    if judgement.all_bad:
        raise Skipped("all answers were bad")
    responses = tuple(find(response) for response in judgement.shown)
    if any(response.messages != responses[0].messages for response in responses):
        raise Skipped("the answers are to different questions")
    replies = tuple(response.text for response in responses)
    record = RankingRecord(messages=messages_of(responses[0]), replies=replies, ranks=judgement.ranks)
    return Pair(record, responses)


def messages_of(response: Response) -> tuple[dict[str, Any], ...]:
    """What was asked, as role and text."""
    if not response.messages:
        raise Skipped("logging was off, so nothing of it was kept")
    return tuple({"role": m.get("role"), "content": _text(m.get("content"))} for m in response.messages)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) and "text" in part for part in content):
        raise Skipped("a message holds something else than text")
    return "\n".join(str(part["text"]) for part in content)
