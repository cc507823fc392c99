"""The room in which the exam's measures find an arm of the advisor: with the same records in every part."""

from collections.abc import Sequence
from typing import Any

from adapters.exam_types import Answer, Arm, Messages, Part, Room
from adapters.registry import AdapterCard
from data.dataset import Row
from data.errors import BrogueError
from data.settings import Settings


class AskedRoom:
    """An arm's room in which every part has the same rows; with a `plain` one, that is the exam's "base"."""

    def __init__(self, room: Room, rows: Sequence[Row], plain: Room | None = None) -> None:
        self.arms: tuple[Arm, ...] = ("version",) if plain is None else ("version", "base")
        self.seed: int = room.seed
        self.settings: Settings = room.settings
        self._rooms: dict[Arm, Room] = {"version": room}
        if plain is not None:
            self._rooms["base"] = plain
        self.held = list(rows)

    def card(self, arm: Arm) -> AdapterCard | None:
        return self._rooms[arm].card("version")

    def rows(self, part: Part) -> list[Row]:
        return self.held[: part.limit]

    def lines(self, part: Part) -> list[dict[str, Any]]:
        raise BrogueError(f"'{part.prefix}' wants a file; the advisor has none")

    def answers(self, arm: Arm, prompts: Sequence[Messages], **sampling: Any) -> list[Answer]:
        return self._rooms[arm].answers("version", prompts, **sampling)

    def likelihoods(self, arm: Arm, prompts: Sequence[Messages | None], texts: Sequence[str]) -> list[list[float]]:
        return self._rooms[arm].likelihoods("version", prompts, texts)

    def rewards(self, prompts: Sequence[Messages], texts: Sequence[str]) -> list[float] | None:
        return self._rooms["version"].rewards(prompts, texts)

    def judge(self) -> AdapterCard | None:
        return self._rooms["version"].judge()

    def say(self, text: str) -> None:
        """Nothing: what an exam says once, such as that there are no prices, would be said of every arm."""
