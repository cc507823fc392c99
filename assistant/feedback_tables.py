"""What `brogue feedback` prints: judgements, agreement, a leaderboard. Numbers that mean nothing are a dash."""

from collections.abc import Mapping, Sequence

import typer

from assistant.console import print_table, say
from data.errors import one_line
from data.judgements import AnyJudgement, Comparison, Ranking, Rating, StoredJudgement
from data.leaderboard import Leaderboard
from data.leaderboard_groups import Groups
from data.raters import Agreement, RaterReport, Share

_NONE = "-"


def print_judgements(found: Sequence[StoredJudgement]) -> None:
    """A line each."""
    rows = [
        (f"{kept.created:%Y-%m-%d %H:%M}", kept.judgement.kind, one_line(kept.judgement.rater, 24), _verdict(kept),
         _NONE if kept.judgement.seconds is None else f"{kept.judgement.seconds:.0f} s",
         one_line(_words(kept.judgement), 50) or _NONE,
         kept.judgement.id + (" (taken back)" if kept.taken_back else ""))
        for kept in found
    ]  # fmt: skip
    columns = ("when (UTC)", "kind", "rater", "said", "took", "words", "id")
    print_table(columns, rows, "no judgements; people give them on the chat page")


def _verdict(kept: StoredJudgement) -> str:
    judgement = kept.judgement
    if isinstance(judgement, Rating):
        return f"{judgement.thumb}: {kept.versions[0]}"
    if isinstance(judgement, Comparison):
        first, second = kept.versions
        if judgement.verdict in ("tie", "both-bad"):
            return f"{first} {'=' if judgement.verdict == 'tie' else 'and'} {second}" + (
                " both bad" if judgement.verdict == "both-bad" else ""
            )
        return f"{first} > {second}" if judgement.verdict == "first" else f"{second} > {first}"
    if isinstance(judgement, Ranking):
        places = sorted(set(judgement.ranks))
        tied = [[v for v, r in zip(kept.versions, judgement.ranks, strict=True) if r == place] for place in places]
        return " > ".join(" = ".join(names) for names in tied) + (" all bad" if judgement.all_bad else "")
    return f"corrected: {kept.versions[0]}"


def _words(judgement: AnyJudgement) -> str:
    parts = [", ".join(judgement.reasons), judgement.comment]
    if judgement.kind == "correction":
        parts.append(judgement.text)
    return "; ".join(part for part in parts if part)


def print_agreement(report: Agreement) -> None:
    """Alpha of all and by assistant; then the raters."""
    rows = []
    for name, alphas in {"all": {"comparisons": report.comparisons, "rankings": report.rankings},
                         **report.assistants}.items():  # fmt: skip
        for kind, alpha in alphas.items():
            if alpha.items:
                value = _NONE if alpha.value is None else f"{alpha.value:.2f}"
                rows.append((name, kind, value, _interval(alpha.low, alpha.high), alpha.items, alpha.raters))
    print_table(("assistant", "of", "alpha", "95%", "items", "raters"), rows,
                "nothing was judged by more than one rater, so there is no agreement to measure")  # fmt: skip
    if report.first:
        typer.echo(
            f"the answer shown first wins {_share(report.first)} of {report.first.of:,}, 95% {_range(report.first)}"
        )
    typer.echo("")
    columns = ("rater", "judgements", "shared", "with others", "95%", "others", "itself", "first", "too fast", "weight",
               "flags")  # fmt: skip
    print_table(columns, [_rater(rater) for rater in report.raters], "no comparisons or rankings yet")


def _rater(rater: RaterReport) -> tuple[object, ...]:
    return (
        one_line(rater.rater, 24), rater.judgements, rater.shared, _number(rater.with_others),
        _interval(rater.with_others_low, rater.with_others_high), _number(rater.others), _share(rater.itself),
        _share(rater.first), _share(rater.too_fast), f"{rater.weight:.2f}", ", ".join(rater.flags) or _NONE,
    )  # fmt: skip


def print_leaderboard(board: Leaderboard, weights: Mapping[str, float]) -> None:
    """The standings, the effects of style, and what to bear in mind."""
    rows = [
        (standing.place, standing.version, f"{standing.points:.0f}", f"{standing.low:.0f} to {standing.high:.0f}",
         standing.matches, f"{standing.won:.0%}")
        for standing in board.standings
    ]  # fmt: skip
    print_table(("place", "version", "points", "95%", "matches", "won"), rows, "")
    typer.echo(f"{board.matches:,} matches ({board.ties:,} ties) in {board.judgements:,} judgements")
    for effect in board.style:
        typer.echo(
            f"twice the {effect.name}: odds to win × {effect.odds:.2f} (95% {effect.low:.2f} to {effect.high:.2f})"
        )
    lighter = sorted(rater for rater, weight in weights.items() if weight < 1)
    if lighter:
        named = ", ".join(f"{rater} {weights[rater]:.2f}" for rater in lighter)
        say(f"weighted down: {named} (why: brogue feedback agreement)")
    if board.without_text:
        say(f"{board.without_text:,} matches were left out: their answers' texts were not kept")
    if len(board.groups) > 1:
        parts = "; ".join(" and ".join(group) for group in board.groups)
        say(f"nobody compared between these, so their order means nothing: {parts}")


def print_groups(by: str, groups: Groups) -> None:
    """The standings of each group, and what is in none."""
    rows = [
        (name if standing is board.standings[0] else "", standing.place, standing.version, f"{standing.points:.0f}",
         f"{standing.low:.0f} to {standing.high:.0f}", standing.matches, f"{standing.won:.0%}")
        for name, board in groups.boards.items() for standing in board.standings
    ]  # fmt: skip
    typer.echo("")
    print_table((by, "place", "version", "points", "95%", "matches", "won"), rows,
                f"no two versions were compared within one {by}")  # fmt: skip
    if groups.without and rows:
        say(f"no two versions were compared within: {', '.join(groups.without)}")
    if groups.mixed:
        say(f"{groups.mixed:,} judgements are of answers of more than one {by}, so they are in no group")


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"


def _interval(low: float | None, high: float | None) -> str:
    return _NONE if low is None or high is None else f"{low:.2f} to {high:.2f}"


def _share(share: Share | None) -> str:
    return _NONE if share is None else f"{share.value:.0%}"


def _range(share: Share) -> str:
    return f"{share.low:.0%} to {share.high:.0%}"
