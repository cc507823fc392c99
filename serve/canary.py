"""A new version tried on a share of the traffic: who gets it, how it does, and when it has to be taken back.

Pure Python. Counts are kept per version in `<home>/adapters/<name>/tallies.json`; nothing here moves an alias.
"""

import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import lgamma, log
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from data.errors import one_line
from data.home import Home, write_json

_LOG = logging.getLogger("brogue.canary")
CONVERSATION_HEADER = "x-brogue-conversation"
TALLIES = "tallies.json"
REMEMBERED = 10_000  # answers that can still be rated
WRITE_EVERY_S = 1.0
ALPHA = 0.05  # a canary that is as good as stable is stopped with at most this probability, however long it runs
MIN_ANSWERS, MIN_BAD = 10, 3  # of each version, and bad ones of the canary: nobody believes a verdict on less


def sticky_key(headers: Mapping[str, str], body: Mapping[str, Any]) -> str:
    """What stays the same through a conversation, so that it is answered by one version.

    The header x-brogue-conversation, else OpenAI's `user` or `safety_identifier`, else the first thing the user
    said, or the text to be continued.
    """
    if named := headers.get(CONVERSATION_HEADER) or body.get("user") or body.get("safety_identifier"):
        return str(named)
    said = (m.get("content") for m in body.get("messages") or () if m.get("role") == "user")
    return json.dumps(next(said, body.get("prompt") or ""), sort_keys=True)


def picks_canary(adapter: str, key: str, share: int) -> bool:
    """Whether this key is among the `share` percent that the canary answers; a larger share keeps a smaller one's."""
    digest = hashlib.sha256(f"{adapter}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 100 < share


@dataclass
class Tally:
    """What became of one version's answers."""

    answers: int = 0
    errors: int = 0
    up: int = 0
    down: int = 0

    def since(self, before: "Tally") -> "Tally":
        """What was added to `before`; a rating that was changed later never makes it negative."""
        mine, theirs = asdict(self), asdict(before)
        return Tally(**{name: max(0, mine[name] - theirs[name]) for name in mine})


def significantly_worse(stable: tuple[int, int], canary: tuple[int, int], alpha: float = ALPHA) -> bool:
    """Whether the canary's rate of bad answers is higher than stable's; both are (bad, all).

    It may be asked after every answer: if the canary is no worse, it is ever true with probability `alpha` at most.
    The rule is a mixture sequential probability ratio test (Johari, Koomen, Pekelis and Walsh, "Always Valid
    Inference", Operations Research 70(3), 2022; the mixture goes back to Robbins, 1970): stop once the likelihood of
    the data, averaged over all pairs of rates (Beta(½, ½) for each version), is 1/alpha times the likelihood under the
    hypothesis that the canary is no worse. That hypothesis leaves the rate open, so its best rate is taken: the ratio
    only gets smaller, and the bound holds for any number of answers, not just for many (Wasserman, Ramdas and
    Balakrishnan, "Universal inference", PNAS 117(29), 2020). Answers count as independent of each other.
    """
    (bad_stable, all_stable), (bad_canary, all_canary) = stable, canary
    if min(all_stable, all_canary) < MIN_ANSWERS or bad_canary < MIN_BAD:
        return False
    if bad_canary * all_stable <= bad_stable * all_canary:
        return False
    averaged = _log_averaged(bad_stable, all_stable) + _log_averaged(bad_canary, all_canary)
    return averaged - _log_best(bad_stable + bad_canary, all_stable + all_canary) >= log(1 / alpha)


def _log_averaged(bad: int, total: int) -> float:
    """log of the likelihood of `bad` in `total`, averaged over rates with density Beta(½, ½)."""
    return lgamma(bad + 0.5) + lgamma(total - bad + 0.5) - lgamma(total + 1) - 2 * lgamma(0.5)


def _log_best(bad: int, total: int) -> float:
    """log of the likelihood of `bad` in `total` at the rate that explains them best."""
    return sum(n * log(n / total) for n in (bad, total - bad) if n)


@dataclass
class _Trial:
    """A canary against stable, and the tallies that both began with."""

    stable: int
    canary: int
    stable_before: Tally
    canary_before: Tally


@dataclass
class _Book:
    """The content of an adapter's tallies file."""

    versions: dict[int, Tally] = field(default_factory=dict)
    trial: _Trial | None = None


_BOOK = TypeAdapter(_Book)


class Trials:
    """The tallies of all versions, and the canaries that are being compared. For one process; calls are cheap."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._books: dict[str, _Book] = {}
        self._answered: OrderedDict[str, tuple[str, int, int]] = OrderedDict()  # response id → adapter, version, rating
        self._unwritten: set[str] = set()
        self._next_write = 0.0

    def answered(self, adapter: str, version: int, error: bool) -> None:
        """Count an answer of a version, or its failure to give one."""
        tally = self._tally(adapter, version)
        tally.answers += 1
        tally.errors += error
        self._changed(adapter)

    def remember(self, response_id: str, adapter: str, version: int, rating: int = 0) -> None:
        """Keep in mind which version wrote an answer, for its rating; `rating` is the one it has already."""
        self._answered[response_id] = (adapter, version, rating)
        while len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)

    def rate(self, response_id: str, rating: int) -> tuple[str, int]:
        """Count a thumb up (1) or down (-1) for whoever wrote the answer: (adapter, version).

        Rated again, an answer has its latest rating. KeyError for an answer that is not remembered.
        """
        adapter, version, before = self._answered[response_id]
        tally = self._tally(adapter, version)
        tally.up += (rating > 0) - (before > 0)
        tally.down += (rating < 0) - (before < 0)
        self._answered[response_id] = (adapter, version, rating)
        self._changed(adapter)
        return adapter, version

    def tally(self, adapter: str, version: int) -> Tally:
        """All that was ever counted of a version."""
        return replace(self._tally(adapter, version))

    def start(self, adapter: str, stable: int, canary: int) -> None:
        """A canary begins: its comparison with stable counts from here."""
        before = self.tally(adapter, stable), self.tally(adapter, canary)
        self._book(adapter).trial = _Trial(stable, canary, *before)
        self._changed(adapter)

    def why_stop(self, adapter: str, stable: int, canary: int) -> str | None:
        """One line if the canary's errors or ratings are significantly worse than stable's since its start.

        Both are watched, so each gets half of the probability of a false alarm. A pair that was not started starts now.
        """
        trial = self._book(adapter).trial
        if trial is None or (trial.stable, trial.canary) != (stable, canary):
            self.start(adapter, stable, canary)
            return None
        old = self._tally(adapter, stable).since(trial.stable_before)
        new = self._tally(adapter, canary).since(trial.canary_before)
        if significantly_worse((old.errors, old.answers), (new.errors, new.answers), ALPHA / 2):
            return (
                f"{adapter}@{canary} failed in {new.errors} of {new.answers} answers, "
                f"{adapter}@{stable} in {old.errors} of {old.answers}"
            )
        if significantly_worse((old.down, old.up + old.down), (new.down, new.up + new.down), ALPHA / 2):
            return (
                f"{adapter}@{canary} got {new.down} thumbs down of {new.up + new.down}, "
                f"{adapter}@{stable} {old.down} of {old.up + old.down}"
            )
        return None

    def flush(self) -> None:
        """Write what is not on disk yet; for the exit, and now and then while nobody asks anything."""
        for adapter in self._unwritten:
            try:
                write_json(self._path(adapter), _BOOK.dump_python(self._book(adapter), mode="json"))
            except OSError as error:  # a full disk must not cost anybody an answer
                _LOG.warning("the tallies of %s could not be saved: %s", adapter, one_line(error))
        self._unwritten.clear()
        self._next_write = time.monotonic() + WRITE_EVERY_S

    def _changed(self, adapter: str) -> None:
        self._unwritten.add(adapter)
        if time.monotonic() >= self._next_write:
            self.flush()

    def _tally(self, adapter: str, version: int) -> Tally:
        return self._book(adapter).versions.setdefault(version, Tally())

    def _book(self, adapter: str) -> _Book:
        if adapter not in self._books:
            self._books[adapter] = self._read(adapter)
        return self._books[adapter]

    def _read(self, adapter: str) -> _Book:
        try:
            return _BOOK.validate_json(self._path(adapter).read_bytes())
        except FileNotFoundError:
            return _Book()
        except (OSError, ValidationError) as error:
            _LOG.warning("%s cannot be read, counting anew: %s", self._path(adapter), one_line(error))
            return _Book()

    def _path(self, adapter: str) -> Path:
        return self._home.adapters / adapter / TALLIES
