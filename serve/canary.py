"""A new version tried on a share of the traffic: who gets it, how it does, and when it has to be taken back.

Pure Python. What this gateway counts is kept per version in `<home>/adapters/<name>/tallies.json`; what other gateways
of the same store count is told by serve/tallies.py. Nothing here moves an alias.
"""

import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import lgamma, log
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from data.errors import one_line
from data.home import Home, write_json
from data.tallies import Tally
from serve.canary_trial import Pair, Trial

_LOG = logging.getLogger("brogue.canary")
CONVERSATION_HEADER = "x-brogue-conversation"
TALLIES = "tallies.json"
REMEMBERED = 10_000  # answers that can still be rated
WRITE_EVERY_S = 1.0
ALPHA = 0.05  # a canary that is as good as stable is stopped with at most this probability, however long it runs
MIN_ANSWERS, MIN_BAD = 10, 3  # of each version, and bad ones of the canary: nobody believes a verdict on less
Which = tuple[str, int]  # adapter and version


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
class _Book:
    """The content of an adapter's tallies file."""

    versions: dict[int, Tally] = field(default_factory=dict)
    trial: Trial | None = None


_BOOK = TypeAdapter(_Book)


class Trials:
    """The tallies of all versions, and the canaries that are being compared. For one process; calls are cheap."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._books: dict[str, _Book] = {}
        self._elsewhere: dict[Which, Mapping[str, Tally]] = {}  # what other gateways counted, by their ids
        # Response id → adapter, version, and the rating that was counted here and is not in the store.
        self._answered: OrderedDict[str, tuple[str, int, int]] = OrderedDict()
        self._unwritten: set[str] = set()
        self.untold: set[Which] = set()  # what other gateways may not know yet; who tells them takes it out
        self._next_write = 0.0

    def answered(self, adapter: str, version: int, error: bool) -> None:
        """Count an answer of a version, or its failure to give one."""
        tally = self._tally(adapter, version)
        tally.answers += 1
        tally.errors += error
        self._changed(adapter, version)

    def remember(self, response_id: str, adapter: str, version: int) -> None:
        """Keep in mind which version wrote an answer, for its rating."""
        self._answered[response_id] = (adapter, version, 0)
        while len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)

    def rate(self, response_id: str, rating: int, known: int | None = None) -> tuple[str, int]:
        """Count a thumb up (1) or down (-1) for whoever wrote the answer: (adapter, version).

        Rated again, an answer has its latest rating. `known` is the one before (0: there was none) by the store, which
        all gateways have in common: wherever that was counted, the difference counts here, so that a gateway's own
        count may be negative. None: the store does not have the answer; then what this process counted is asked.
        KeyError for an answer that is not remembered.
        """
        adapter, version, counted = self._answered[response_id]
        tally = self._tally(adapter, version)
        for was in (counted, known or 0):
            tally.up -= was > 0
            tally.down -= was < 0
        tally.up += rating > 0
        tally.down += rating < 0
        self._answered[response_id] = (adapter, version, rating if known is None else 0)
        self._changed(adapter, version)
        return adapter, version

    def tally(self, adapter: str, version: int) -> Tally:
        """All that was ever counted of a version, by every gateway as far as this one has heard."""
        return sum(self._elsewhere.get((adapter, version), {}).values(), self._tally(adapter, version)).since(Tally())

    def own(self, adapter: str, version: int) -> Tally:
        """What this gateway counted of it."""
        return replace(self._tally(adapter, version))

    def hear(self, counted: Mapping[Which, Mapping[str, Tally]]) -> None:
        """What other gateways have counted of some versions, by their ids, as the store has it now."""
        self._elsewhere.update(counted)
        for adapter in {adapter for adapter, _ in counted} & self._books.keys():
            trial = self._books[adapter].trial
            if trial is not None and trial.begin_elsewhere(self._counted_elsewhere(adapter, trial)):
                self._changed(adapter)

    def start(self, adapter: str, stable: int, canary: int) -> None:
        """A canary begins: its comparison with stable counts from here, and elsewhere from the next time we hear."""
        before = self.own(adapter, stable), self.own(adapter, canary)
        self._book(adapter).trial = Trial(stable, canary, *before)
        self._changed(adapter)

    def why_stop(self, adapter: str, stable: int, canary: int) -> str | None:
        """One line if the canary's errors or ratings are significantly worse than stable's since its start.

        Both are watched, so each gets half of the probability of a false alarm. A pair that was not started starts now.
        """
        trial = self._book(adapter).trial
        if trial is None or (trial.stable, trial.canary) != (stable, canary):
            self.start(adapter, stable, canary)
            return None
        own = self._tally(adapter, stable), self._tally(adapter, canary)
        old, new = trial.since(own, self._counted_elsewhere(adapter, trial))
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

    def _counted_elsewhere(self, adapter: str, trial: Trial) -> dict[str, Pair]:
        stable, canary = (self._elsewhere.get((adapter, version), {}) for version in (trial.stable, trial.canary))
        return {one: (stable.get(one, Tally()), canary.get(one, Tally())) for one in stable.keys() | canary.keys()}

    def _changed(self, adapter: str, version: int | None = None) -> None:
        self._unwritten.add(adapter)
        if version is not None:
            self.untold.add((adapter, version))
        if time.monotonic() >= self._next_write:
            self.flush()

    def _tally(self, adapter: str, version: int) -> Tally:
        return self._book(adapter).versions.setdefault(version, Tally())

    def _book(self, adapter: str) -> _Book:
        if adapter not in self._books:
            self._books[adapter] = self._read(adapter)
            self.untold.update((adapter, version) for version in self._books[adapter].versions)
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
