"""The judgements that a round of the loop learns from: which there are, whether they are enough, and their dataset."""

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from adapters.loop import Round
from assistant.cli_store import opened_store
from data.dataset import DatasetCard
from data.errors import BrogueError
from data.feedback import Collected
from data.home import Home
from data.judgements import StoredJudgement, Wanted
from data.records import assign_split
from data.settings import LoopSettings, load_settings

if TYPE_CHECKING:
    from data.collecting import Counts, Source
    from data.store import Store

KINDS: dict[str, Collected] = {"sft": "chat", "kto": "rated"}  # the other recipes learn from pairs
PAIRS: tuple[Collected, ...] = ("preference", "ranking")


class Counted(NamedTuple):
    """What there is to learn from."""

    counts: "Counts"  # what becomes of the judgements that the recipe looks at
    told: int  # judgements of all kinds
    splits: "Counts"


def concerns(kept: StoredJudgement, adapter: str) -> bool:
    """Is it about an answer by one of the adapter's versions?"""
    return any(version.startswith(f"{adapter}@") for version in kept.versions)


def new_judgements(home: Home, adapter: str, since: datetime | None) -> int:
    """How many judgements about the adapter there are from `since` on."""
    with opened_store(home) as store:
        return sum(concerns(kept, adapter) for kept in store.judgements(Wanted(since=since)))


def count(home: Home, state: Round) -> Counted:
    """What the round would learn from; nothing is written."""
    from data.feedback import told
    from data.memory import many_objects

    counts, splits, shares = Counter[str](), Counter[str](), _settings(home).split
    with opened_store(home) as store, many_objects():
        source = _source(store, state)
        for kind in (KINDS[state.asked.recipe],) if state.asked.recipe in KINDS else PAIRS:
            for one in told(source.judgements, store.responses_of, kind, counts, source.weights):
                splits[assign_split(one.record, shares)] += 1
        return Counted(counts, len(source.told), splits)


def require_enough(home: Home, state: Round) -> None:
    """One line if there are too few to learn from, or none to train on or to examine with."""
    found, wanted = count(home, state), _settings(home).min_judgements
    kept = found.counts["kept"]
    if kept < wanted:
        since = "" if state.since is None else f" since {state.start} ({state.since:%Y-%m-%d %H:%M} UTC)"
        older = "" if state.since is None else "; older ones too: --all"
        raise BrogueError(
            f"{state.adapter} has {found.told} judgements{since}; {state.asked.recipe} can learn from "
            f"{words(found.counts)}; wanted at least {wanted} (min_judgements in [loop] of brogue.toml){older}"
        )
    if missing := [name for name in ("train", "test") if not found.splits[name]]:
        raise BrogueError(
            f"none of the {kept} judgements falls into the {missing[0]} split, which goes by their questions; wait for "
            "more, or change split in [loop] of brogue.toml"
        )


def collect(home: Home, state: Round) -> tuple[DatasetCard, "Counts"]:
    """The judgements of the round's time as its dataset; what was collected before is written anew, and the same."""
    from data.collecting import collected, collected_pairs, save
    from data.memory import many_objects

    recipe, counts, shares = state.asked.recipe, Counter[str](), _settings(home).split
    with opened_store(home) as store, many_objects():
        source = _source(store, state)
        if recipe in KINDS:
            rows = collected(source, KINDS[recipe], shares, counts)
        else:
            rows = collected_pairs(source, shares, counts)
        options = {"round": state.id, "since": state.since and state.since.isoformat(), "for": recipe}
        return save(home, state.dataset, rows, source, shares, True, counts, options), counts


def words(counts: "Counts") -> str:
    """How many of the judgements can be learnt from, and why the others cannot."""
    skipped = "; ".join(f"{why} ({count})" for why, count in sorted(counts.items()) if why.startswith("skipped"))
    return f"{counts['kept']} of them{f' ({skipped})' if skipped else ''}"


def _source(store: "Store", state: Round) -> "Source":
    from data.collecting import Source, oldest_first
    from data.raters import weights_in

    wanted = Wanted(since=state.since, until=state.until)
    everything = store.judgements(wanted)
    ours = oldest_first([kept for kept in everything if concerns(kept, state.adapter)])
    return Source(store, ours, weights_in(store, wanted, everything))


def _settings(home: Home) -> LoopSettings:
    return load_settings(home.settings_file).loop
