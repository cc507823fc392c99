"""Judgements as a file to train on: the columns of TRL's trainers, with the rater's weight as a column `weight`.

- `sft`: messages, of answers with more thumbs up than down, and of corrections.
- `dpo`: prompt, chosen, rejected, of comparisons, corrections (chosen over the original) and every two answers of a
  ranking that are not tied; `reward`: chosen, rejected.
- `kto`: prompt, completion, label, of answers with more thumbs up than down or the other way round.
- `ranking`: messages, replies, ranks (0 is best): no trainer of TRL's takes these; `brogue data import` does.
- `jsonl`: the judgements as they are.

The weight is the mean of those raters' who said so; a pair of a ranking of k answers weighs 2/k of it, so that the
ranking weighs as much as k - 1 comparisons. Lines are made as they are written; nothing is held but some responses.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from data.ahead import Load
from data.errors import BrogueError, DataError
from data.exporting import whole_file
from data.exporting_files import FILES
from data.exporting_shapes import SHAPES, pair_weight
from data.feedback import Collected, told, weight_of
from data.judgements import AnyJudgement, StoredJudgement

Format = Literal["sft", "dpo", "kto", "reward", "ranking", "jsonl"]
FORMATS: tuple[Format, ...] = get_args(Format)
Fields = dict[str, Any]
_KINDS: dict[Format, tuple[Collected, ...]] = {
    "sft": ("chat",), "dpo": ("preference", "ranking"), "reward": ("preference", "ranking"), "ranking": ("ranking",),
    "kto": ("rated",),
}  # fmt: skip
_WANTED = {
    "sft": "thumbs up or corrections", "dpo": "comparisons, corrections or rankings", "kto": "thumbs",
    "reward": "comparisons, corrections or rankings", "ranking": "rankings", "jsonl": "judgements",
}  # fmt: skip


def export_feedback(stored: Iterable[StoredJudgement], load: Load,
                    weights: Mapping[str, float], format: Format, to: Path, replace: bool,
                    on_progress: Callable[[int], None] = lambda _: None) -> Counter[str]:  # fmt: skip
    """Write a file; returns how many lines, and how many judgements gave none and why. `.parquet` is written as such.

    `load` gives responses by id. Raters who are not in `weights` weigh 1; who weighs 0 is left out.
    """
    if format not in FORMATS:
        raise BrogueError(f"--as wants one of {', '.join(FORMATS)}; found '{format}'")
    known = sorted(stored, key=lambda kept: (kept.created, kept.judgement.id))
    counts: Counter[str] = Counter()

    def counted() -> Iterator[Fields]:
        for line in _lines(known, load, weights, format, counts):
            counts["lines"] += 1
            if counts["lines"] % 1000 == 0:
                on_progress(counts["lines"])
            yield line

    with whole_file(to, replace) as temporary:
        FILES["parquet" if to.suffix == ".parquet" and format != "jsonl" else "jsonl"](temporary, counted())
        if not counts["lines"]:
            why = "; ".join(
                f"{reason} ({count})" for reason, count in counts.most_common(3) if reason != "kept" and count
            )
            raise DataError(
                f"no {_WANTED[format]} among {len(known)} judgements that give a line{': ' * bool(why)}{why}"
            )
    counts.pop("kept", None)
    return counts


def _lines(known: list[StoredJudgement], load: Load, weights: Mapping[str, float], format: Format,
           counts: Counter[str]) -> Iterator[Fields]:  # fmt: skip
    said = [kept.judgement for kept in known]
    if format == "jsonl":
        for kept in known:
            yield kept.model_dump(mode="json") | {"weight": float(weights.get(kept.judgement.rater, 1.0))}
    else:
        for kind in _KINDS[format]:
            yield from _shaped(said, load, weights, format, kind, counts)


def _shaped(said: list[AnyJudgement], load: Load, weights: Mapping[str, float], format: Format, kind: Collected,
            counts: Counter[str]) -> Iterator[Fields]:  # fmt: skip
    shape = SHAPES["jsonl" if format == "ranking" else f"trl-{format}"][kind]
    for record, _, raters in told(said, load, kind, counts, weights):
        weight = weight_of(raters, weights)
        if format != "ranking":
            weight *= pair_weight(record)
        before = counts["lines"]
        for fields in shape(record):
            yield fields | {"weight": weight}
        counts["skipped: neither answer is better"] += before == counts["lines"]
