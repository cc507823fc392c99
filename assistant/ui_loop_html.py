"""How each adapter got better, as HTML: its versions' figures and ratings, verdicts in words, the retrain of now.

No Gradio and no network here: what the gateway says goes in. Buttons say in data attributes what they mean.
"""

from functools import lru_cache
from html import escape
from typing import Any, NamedTuple

from adapters.exam_types import Interval
from adapters.held_out import wilson
from assistant.exam_plots import by_version
from assistant.exam_words import number

Loop = dict[str, Any]  # as GET /v1/adapters/NAME/loop gives it
Adapter = dict[str, Any]  # as GET /v1/adapters gives it
PANELS = 5  # figures of exams, besides the ratings
SHOWN_VERSIONS, SHOWN_ROUNDS = 6, 8
DOING = {
    "collect": "the judgements are being collected", "reward": "a model of what people prefer is being trained",
    "train": "a new version is being trained", "exam": "the new version is being examined",
    "gate": "the rules are being applied", "place": "the new version gets its place",
}  # fmt: skip
RECIPES = {  # what it learns from, and what that needs
    "dpo": ("Which answer people found better", "Needs comparisons, rankings or corrections."),
    "ppo": ("The same, by practice", "Needs the same, and time: a model of what people prefer scores its answers."),
    "sft": ("Answers that people liked", "Needs thumbs up or corrections."),
    "kto": ("Thumbs", "Needs thumbs up and thumbs down."),
}  # fmt: skip
RESULTS = {"pass": ("passed", "stable"), "fail": ("not passed", "refused"), "not enough evidence": ("undecided", "")}


class Panel(NamedTuple):
    """A figure of several versions."""

    title: str
    unit: str
    points: tuple[tuple[int, Interval], ...]
    versions: tuple[int, ...] = ()  # along the axis, the same in all panels of an adapter
    even: float | None = None

    @property
    def words(self) -> str:
        """For who cannot see it."""
        told = (f"version {version} {number(found.value, self.unit)}" for version, found in self.points)
        return f"{self.title} by version: {', '.join(told)}"


class Asked(NamedTuple):
    """An adapter whose retrain somebody is asked to confirm."""

    adapter: str


def loops_html(loops: list[Loop], adapters: list[Adapter], said: str = "", asked: Asked | None = None) -> str:
    """All adapters that can be made better."""
    by_name = {one["id"]: one for one in adapters}
    cards = [_card(loop, by_name[loop["adapter"]], asked) for loop in loops if loop["adapter"] in by_name]
    return said + "".join(cards)


def panels(loop: Loop, adapter: Adapter) -> list[Panel]:
    """What is drawn: people's thumbs, and of each part of the latest exam the first figure that may decide."""
    found: list[Panel] = []
    rated = tuple((one["version"], _helpful(one["up"], one["down"])) for one in adapter["versions"]
                  if one["up"] + one["down"])  # fmt: skip
    if rated:
        found.append(Panel("People: answers found helpful", "share", rated))
    exams = [(one["version"], one["exam"]) for one in loop["versions"] if one["exam"]]
    chosen: dict[str, dict[str, Any]] = {}
    for figure in exams[-1][1]["figures"] if exams else ():
        if figure["way"] != "stated":
            chosen.setdefault(figure["name"].partition(".")[0], figure)
    for figure in list(chosen.values())[:PANELS]:
        points = tuple((version, value) for version, exam in exams if (value := _value(exam, figure["name"])))
        even = 0.5 if "win_rate" in figure["name"] else None
        found.append(Panel(figure["title"] + _hint(figure), figure["unit"], points, even=even))
    shown = tuple(sorted({version for panel in found for version, _ in panel.points}))
    return [panel._replace(versions=shown) for panel in found]


def _hint(figure: dict[str, Any]) -> str:
    """What the axis counts, and which end of it is good where that is not the upper one."""
    unit = [figure["unit"]] if figure["unit"] not in ("share", "points") else []
    hints = [*unit, *(["lower is better"] if figure["better"] == "lower" else [])]
    return f" ({', '.join(hints)})" if hints else ""


def _helpful(up: int, down: int) -> Interval:
    low, high = wilson(up, up + down)
    return Interval(value=up / (up + down), low=low, high=high)


def _value(exam: dict[str, Any], name: str) -> Interval | None:
    figure = next((one for one in exam["figures"] if one["name"] == name), None)
    return Interval(value=figure["value"], low=figure["low"], high=figure["high"]) if figure else None


def _card(loop: Loop, adapter: Adapter, asked: Asked | None) -> str:
    name, drawn = escape(loop["adapter"]), panels(loop, adapter)
    is_asked = asked is not None and asked.adapter == loop["adapter"]
    figures = "".join(
        f'<figure><figcaption>{escape(panel.title)}</figcaption><div role="img" aria-label="{escape(panel.words)}">'
        f"{_drawn(panel)}</div></figure>"
        for panel in drawn
    )
    curves = f'<div class="curves">{figures}</div>' if figures else ""
    button = "" if is_asked or loop["running"] else _button(loop)
    return (
        f'<section class="card loop"><header><div><h2>{name}, from version to version</h2>'
        f"<p>{_waiting(loop)}</p></div>{button}</header>{_now(loop)}{_question(loop) if is_asked else ''}{curves}"
        f"{_versions(loop)}{_rounds(loop)}</section>"
    )


@lru_cache(maxsize=128)  # while a retrain runs the page is asked for again and again
def _drawn(panel: Panel) -> str:
    return by_version(panel.points, panel.versions, panel.unit == "share", panel.even)


def _waiting(loop: Loop) -> str:
    """What people have said since, and whether that is enough."""
    count, wanted = loop["judgements"], loop["wanted"]
    if count is None:
        return "What people said cannot be counted right now."
    new = f"{count:,} new judgement{'s' * (count != 1)} since the stable version was made"
    return f"{new}." if count >= wanted else f"{new}; it takes {wanted:,} to learn from them."


def _button(loop: Loop) -> str:
    act, text = ("resume", "Go on with the retrain") if loop["unfinished"] else ("ask", "Retrain")
    name = escape(loop["adapter"])
    return f'<button type="button" data-act="{act}" data-adapter="{name}" aria-label="{text}: {name}">{text}</button>'


def _now(loop: Loop) -> str:
    """What a retrain does now, or why the last one ended too early."""
    if not loop["running"]:
        return f'<p class="reason">The retrain stopped: {escape(loop["problem"])}</p>' if loop["problem"] else ""
    latest = loop["rounds"][0] if loop["rounds"] else None
    label = f'aria-label="Retrain of {escape(loop["adapter"])}"'
    said = f'<br><span class="said">{escape(loop["said"])}</span>' if loop["said"] else ""
    if latest is None or latest["doing"] is None:
        return f'<div class="how"><progress {label}></progress>It is being prepared.{said}</div>'
    step, steps = latest["names"].index(latest["doing"]) + 1, len(latest["names"])
    return (
        f'<div class="how"><progress value="{step - 1}" max="{steps}" {label}></progress>'
        f"Step {step} of {steps}: {DOING.get(latest['doing'], escape(latest['doing']))}.{said}</div>"
    )


def _question(loop: Loop) -> str:
    """How to start, before it is started."""
    data = f'data-adapter="{escape(loop["adapter"])}"'
    return (
        f'<div class="question" role="alertdialog" aria-label="Retrain {escape(loop["adapter"])}?">'
        "<p><strong>Make a new version from what people said?</strong></p><p>It learns from the new judgements, is "
        "examined beside the stable version, and the rules decide. That takes a while, and this machine answers more "
        "slowly meanwhile.</p>"
        f'<fieldset class="ways"><legend>What it learns from</legend>{"".join(map(_way, RECIPES))}</fieldset>'
        f'<div class="choice"><button type="button" class="yes" data-act="start" {data} data-focus>Start, and wait for '
        f'my word</button><button type="button" data-act="start-auto" {data}>Start; if it passes, it goes live</button>'
        f'<button type="button" data-act="cancel" {data}>Cancel</button></div></div>'
    )


def _way(recipe: str) -> str:
    """One recipe to choose; the first one is chosen."""
    title, needs = RECIPES[recipe]
    chosen = " checked" if recipe == next(iter(RECIPES)) else ""
    return (
        f'<label><input type="radio" name="recipe" value="{recipe}"{chosen}><span>{title} '
        f"<small>{needs} ({recipe})</small></span></label>"
    )


def _versions(loop: Loop) -> str:
    """The latest verdicts in words, the newest first."""
    examined = [one for one in reversed(loop["versions"]) if one["exam"]][:SHOWN_VERSIONS]
    if not examined:
        return '<p class="nothing">No version has been examined yet. A retrain does it, and so does brogue exam.</p>'
    return f'<ul class="verdicts">{"".join(f"<li>{_version(one)}</li>" for one in examined)}</ul>'


def _version(one: dict[str, Any]) -> str:
    exam = one["exam"]
    verdict, names = exam["verdict"], exam["names"]
    text, kind = RESULTS[verdict["result"]] if verdict else ("no verdict", "")
    words = f"Compared with {_named(names.get('against'))}: {exam['counted']}."
    if verdict and verdict["result"] != "pass":
        broken = [rule["because"] for rule in verdict["rules"] if rule["result"] == verdict["result"]]
        words += f" {'; '.join(broken[:3]).rstrip('.')}." if broken else ""
    link = f"reports/{escape(exam['id'])}"
    return (
        f'<div class="what"><h3>Version {one["version"]}</h3><span class="tag {kind}">{text}</span>'
        f'<a href="{link}" target="_blank" rel="noopener" aria-label="Report of version {one["version"]}">Report</a>'
        f'</div><p class="facts">{escape(words)}</p>'
    )


def _named(reference: str | None) -> str:
    """A version for a person."""
    return f"version {reference.partition('@')[2]}" if reference else "the base model"


def _rounds(loop: Loop) -> str:
    lines = "".join(f"<li>{_round(one)}</li>" for one in loop["rounds"][:SHOWN_ROUNDS])
    return f"<details><summary>Retrains so far</summary><ol>{lines}</ol></details>" if lines else ""


def _round(one: dict[str, Any]) -> str:
    when = escape(one["created"][:16].replace("T", " "))
    learnt = one["steps"].get("collect", {}).get("result", {}).get("judgements")
    from_ = f" from {learnt:,} judgements" if isinstance(learnt, int) else ""
    facts = f"{escape(one['asked']['recipe'])}{from_}, {one['minutes']:.0f} minutes"
    if not one["complete"]:
        return f"<time>{when} UTC</time> {facts}: not complete, {escape(one['where'])}"
    placed = one["steps"].get("place", {}).get("result", {})
    became = f"became {placed['alias']}" if placed.get("alias") else "was kept, but is used by nobody"
    because = f" ({placed['because']})" if placed.get("because") else ""
    ended = escape(f"{one['version']} {became}{because}")
    return f"<time>{when} UTC</time> {facts}: {ended}"
