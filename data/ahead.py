"""Finding responses one after the other, many of them read at once."""

from collections.abc import Callable, Iterable, Sequence

from data.judgements import AnyJudgement, Response

Find = Callable[[str], Response]  # a response by its id
Load = Callable[[Sequence[str]], dict[str, Response]]  # several at once
AT_ONCE = 1000  # responses read at once
HELD = 20_000  # and held, for they come back as others judge them


class Ahead:
    """Finds responses by id, reading those that will be asked for next together with the one that is.

    They are asked for in the order in which they were judged.
    """

    def __init__(self, judgements: Iterable[AnyJudgement], load: Load) -> None:
        self._ids = [id for judgement in judgements for id in judgement.shown]
        self._at = 0
        self._load = load
        self._held: dict[str, Response] = {}  # what was asked for last stands last

    def __call__(self, id: str) -> Response:
        if id not in self._held:
            self._at = self._ids.index(id, self._at)
            wanted = dict.fromkeys(self._ids[self._at : self._at + AT_ONCE])
            there = {known: self._held.pop(known) for known in wanted if known in self._held}
            self._held |= there | self._load([new for new in wanted if new not in there])
            for old in list(self._held)[: max(0, len(self._held) - HELD)]:
                del self._held[old]
        return self._held[id]
