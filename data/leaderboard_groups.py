"""Leaderboards of parts: one for each topic, or for each assistant."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, get_args

from data.errors import DataError
from data.judgements import Comparison, Ranking, StoredJudgement
from data.leaderboard import Leaderboard, Style, leaderboard

By = Literal["topic", "assistant"]
BY: tuple[By, ...] = get_args(By)
NONE = "(none)"  # the group of what has no topic, or no assistant


class Groups(NamedTuple):
    """A leaderboard for each group, by the number of matches, and what is in none of them."""

    boards: dict[str, Leaderboard]
    without: tuple[str, ...]  # groups in which no two versions were compared
    mixed: int  # judgements whose answers are of several groups


def grouped(stored: Iterable[StoredJudgement], by: By, weights: Mapping[str, float],
            styles: Mapping[str, Style] | None = None) -> Groups:  # fmt: skip
    """The leaderboards of judgements that stand, by what all answers of a judgement have in common."""
    parts: dict[str, list[StoredJudgement]] = defaultdict(list)
    mixed = 0
    for kept in stored:
        if isinstance(kept.judgement, Comparison | Ranking):
            names = set(kept.topics if by == "topic" else kept.assistants) or {None}
            mixed += len(names) > 1
            if len(names) == 1:
                parts[names.pop() or NONE].append(kept)
    boards, without = {}, []
    for name, part in sorted(parts.items()):
        try:
            boards[name] = leaderboard(part, weights, styles)
        except DataError:  # no two versions
            without.append(name)
    return Groups(dict(sorted(boards.items(), key=lambda one: -one[1].matches)), tuple(without), mixed)
