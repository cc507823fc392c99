"""What the Adapters tab shows, as HTML and CSS: each adapter, its versions, how they did, the question before a move.

No Gradio and no network here: the gateway's adapter objects go in. Buttons say in data attributes what they mean.
"""

from dataclasses import dataclass
from html import escape
from typing import Any

from assistant.ui_brand import notice

Adapter = dict[str, Any]  # as GET /v1/adapters gives it
SHOWN_MOVES = 8
SHOWN_RULES = 3  # that a version did not pass

CSS = """
#tab-adapters > .column { gap: 14px; padding-bottom: 24px; }
#tab-adapters .topline > .intro { flex: 1 1 200px; }
#refresh { flex: none; width: auto; padding: 6px 12px; border-radius: 9px; background: none; color: var(--ink);
  border: 1px solid var(--line); font-weight: 500; }
#refresh:hover { background: var(--bot); }
#adapters .cards { display: grid; gap: 16px; }
#adapters .adapter { padding: 16px 18px; border: 1px solid var(--line); border-radius: 16px; background: var(--card); }
#adapters :is(h2, h3, p, ul, ol) { margin: 0 !important; }
#adapters h2 { font-size: 16px !important; font-weight: 650 !important; line-height: 1.4 !important; }
#adapters h3 { font-size: 14.5px !important; font-weight: 600 !important; line-height: 1.4 !important; }
#adapters :is(header, .what, .choice) { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 12px; }
#adapters header { justify-content: space-between; gap: 10px; }
#adapters header > div { flex: 1 1 260px; }
#adapters header p, #adapters .facts, #adapters summary, #adapters details ol, #adapters .nothing { font-size: 13.5px;
  color: var(--soft) !important; line-height: 1.5; }
#adapters .versions { list-style: none; padding: 0 !important; margin-top: 12px !important; }
#adapters .versions li { display: grid; grid-template-columns: minmax(190px, 1fr) minmax(0, 1.4fr) 96px;
  align-items: center; gap: 2px 12px; min-height: 50px; padding: 7px 0; margin: 0; border-top: 1px solid var(--line); }
#adapters .versions li::marker { content: none; }
#adapters .reason { grid-column: 1 / -1; font-size: 13.5px; color: var(--warn-ink) !important;
  overflow-wrap: anywhere; }
#adapters .versions .move { justify-self: end; grid-column: 3; }
#adapters .facts span { white-space: nowrap; }
#adapters button { margin: 0 !important; padding: 6px 12px; border-radius: 9px; border: 1px solid var(--line);
  background: none; color: var(--ink); font-size: 13.5px; font-weight: 500; line-height: 1.4; cursor: pointer;
  white-space: nowrap; }
#adapters button:hover { background: var(--bot); }
#adapters button.yes { border-color: transparent; background: var(--brand); color: var(--on-brand); }
#adapters button.yes:hover { filter: brightness(1.1); }
.tag { padding: 1px 9px; border-radius: 999px; border: 1px solid var(--line); font-size: 12.5px; font-weight: 500;
  color: var(--soft) !important; white-space: nowrap; }
.tag.stable { border-color: transparent; background: var(--brand); color: var(--on-brand) !important; }
.tag.canary { border-color: var(--accent); color: var(--accent) !important; }
.tag.refused { border-color: var(--warn-line); background: var(--warn); color: var(--warn-ink) !important; }
#adapters .question { margin-top: 12px; padding: 14px 16px; border-radius: 12px; background: var(--bot);
  font-size: 14px; line-height: 1.5; }
#adapters .choice { margin-top: 10px; }
#adapters .choice button:not(.yes):hover { background: var(--card); }
#adapters .question p { text-wrap: balance; }
#adapters .question p + p { color: var(--soft) !important; }
#adapters details { border-top: 1px solid var(--line); padding-top: 10px; }
#adapters summary { cursor: pointer; width: fit-content; }
#adapters details ol { list-style: none; padding: 6px 0 0 !important; }
#adapters details li { margin: 2px 0; overflow-wrap: anywhere; }
#adapters details time { color: var(--ink); font-variant-numeric: tabular-nums; }
#adapters .done, #adapters > .notice, #adapters .html-container .notice { margin-bottom: 14px !important; }
#adapters .done { padding: 10px 14px; border-radius: 12px; border: 1px solid var(--line); background: var(--bot);
  font-size: 14px; }
@media (max-width: 640px) {
  #adapters .adapter { padding: 14px; }
  #adapters .versions li { grid-template-columns: minmax(0, 1fr) auto; }
  #adapters .versions :is(.what, .facts) { grid-column: 1; }
  #adapters .versions .move { grid-column: 2; grid-row: 1 / 3; }
}
"""


@dataclass(frozen=True)
class Plan:
    """A move of the alias stable that somebody is asked to confirm."""

    act: str  # promote, rollback
    adapter: str
    before: int | None
    after: int
    force: bool = False  # although it failed its exam

    @classmethod
    def of(cls, data: dict[str, Any]) -> "Plan":
        """From a button's data attributes, which the browser sends as text."""
        before = data.get("before")
        return cls(str(data["move"]), str(data["adapter"]), int(before) if before else None, int(data["after"]),
                   data.get("force") == "yes")  # fmt: skip

    def still_holds(self, adapter: Adapter) -> bool:
        """Whether nobody has moved anything since the question was shown."""
        target = adapter["previous"] if self.act == "rollback" else self.after
        return bool(adapter["aliases"].get("stable") == self.before and target == self.after)


def adapters_html(adapters: list[Adapter], said: str = "", asked: Plan | None = None, running: bool = False) -> str:
    """All adapters; `said` stands above them, `asked` in its adapter's card, without buttons while it is `running`."""
    if not adapters:
        text = "Nothing has been trained yet. A first version is made with <code>brogue train</code>."
        return f'{said}<p class="nothing">{text}</p>'
    cards = (_card(one, asked if asked and asked.adapter == one["id"] else None, running) for one in adapters)
    return f'{said}<div class="cards">{"".join(cards)}</div>'


def problem(text: str) -> str:
    """Something that did not work."""
    return notice(text)


def done(plan: Plan) -> str:
    """What a move that worked has changed."""
    was = f" Version {plan.before} finishes the answers it has begun." if plan.before else ""
    return f'<p class="done" role="status">{escape(plan.adapter)}: version {plan.after} is stable now.{was}</p>'


def _card(adapter: Adapter, asked: Plan | None, running: bool) -> str:
    back = adapter["previous"]
    button = "" if back is None or asked else _button("rollback", adapter, back, f"Roll back to version {back}")
    rows = "".join(_version(adapter, one, asked is not None) for one in reversed(adapter["versions"]))
    verdicts = {one["version"]: one.get("verdict") for one in adapter["versions"]}
    question = _question(asked, running, verdicts.get(asked.after)) if asked else ""
    return (
        f'<section class="adapter"><header><div><h2>{escape(adapter["id"])}</h2><p>{_summary(adapter)}</p></div>'
        f'{button}</header>{question}<ul class="versions">{rows}</ul>{_history(adapter)}</section>'
    )


def _summary(adapter: Adapter) -> str:
    """Who answers, in a sentence."""
    stable, canary, plan = adapter["aliases"].get("stable"), adapter["aliases"].get("canary"), adapter["canary"]
    if stable is None:
        return "No version is stable yet, so nobody is answered by it."
    if canary is None or plan is None:
        return f"Version {stable} answers everybody."
    if plan["shadow"]:
        return f"Version {stable} answers everybody. Version {canary} answers along unseen, for comparison."
    return f"Version {stable} answers. Version {canary} is tried on {plan['share']}% of the conversations."


def _version(adapter: Adapter, one: dict[str, Any], quiet: bool) -> str:
    number, refused = one["version"], one["status"] == "refused"
    is_stable = adapter["aliases"].get("stable") == number
    button = "" if is_stable or refused or quiet else _button("promote", adapter, number, "Promote")
    reason = f'<p class="reason">Cannot be used: {escape(one["detail"])}</p>' if refused else ""
    reason += "".join(f'<p class="reason">It {escape(mark["words"])}</p>' for mark in one.get("marks", ()))
    return (
        f'<li><div class="what"><h3>Version {number}</h3>{_badges(adapter, number, refused)}</div>'
        f'<p class="facts">{_facts(one)}</p>{button}{reason}</li>'
    )


def _badges(adapter: Adapter, number: int, refused: bool) -> str:
    plan = adapter["canary"] or {"share": 0, "shadow": False}
    more = {"canary": " in the background" if plan["shadow"] else f" {plan['share']}%"}
    names = [(alias, alias + more.get(alias, "")) for alias, n in adapter["aliases"].items() if n == number]
    names += [("previous", "previous")] * (adapter["previous"] == number) + [("refused", "refused")] * refused
    return "".join(f'<span class="tag {escape(kind)}">{escape(text)}</span>' for kind, text in names)


def _facts(one: dict[str, Any]) -> str:
    if not one["answers"]:
        return "no answers yet"
    facts = [f"{one['answers']:,} answer{'s' * (one['answers'] != 1)}", f"{one['errors']:,} failed"]
    if one["up"] or one["down"]:
        facts.append(f"{one['up']:,} helpful, {one['down']:,} not")
    return " · ".join(f"<span>{fact}</span>" for fact in facts)


def _question(plan: Plan, running: bool, verdict: dict[str, Any] | None) -> str:
    """The confirmation, naming both versions and what the exam said of the one that is to answer."""
    if running:
        text = f"Version {plan.after} is being checked, loaded and asked for a first answer …"
        return f'<div class="question" role="status"><p>{text}</p></div>'
    verb = "Roll back to" if plan.act == "rollback" else "Promote"
    title = f"{verb} version {plan.after}" + (f" in place of version {plan.before}?" if plan.before else "?")
    text = f"Version {plan.after} will answer everybody who asks from then on."
    if plan.before:
        text += f" Answers that version {plan.before} is writing are finished by it."
    failed = plan.act == "promote" and verdict is not None and verdict["result"] == "fail"
    data = _data(plan.act, plan.adapter, plan.before, plan.after) + (' data-force="yes"' if failed else "")
    keep = f"Keep version {plan.before}" if plan.before else "Cancel"
    return (
        f'<div class="question" role="alertdialog" aria-label="{title}"><p><strong>{title}</strong></p><p>{text}</p>'
        f"{_exam(verdict) if plan.act == 'promote' else ''}"
        f'<div class="choice"><button type="button" class="yes" data-act="confirm" {data} data-focus>{verb} version '
        f"{plan.after}{' all the same' if failed else ''}</button>"
        f'<button type="button" data-act="cancel">{keep}</button></div></div>'
    )


def _exam(verdict: dict[str, Any] | None) -> str:
    """What the exam said of a version that is to be promoted."""
    if verdict is None:
        return "<p>It has not been examined.</p>"
    if verdict["result"] == "pass":
        return "<p>It passed its exam.</p>"
    against = [rule["because"] for rule in verdict["rules"] if rule["result"] == verdict["result"]]
    said = "It failed its exam" if verdict["result"] == "fail" else "Its exam has too little evidence for a verdict"
    more = f", and {len(against) - SHOWN_RULES} more" if len(against) > SHOWN_RULES else ""
    return f'<p class="reason">{said}: {escape("; ".join(against[:SHOWN_RULES]))}{more}.</p>'


def _button(act: str, adapter: Adapter, version: int, text: str) -> str:
    data = _data(act, adapter["id"], adapter["aliases"].get("stable"), version)
    label = f"{text} of {adapter['id']}" if act == "rollback" else f"{text} version {version} of {adapter['id']}"
    return f'<button type="button" class="move" data-act="ask" {data} aria-label="{escape(label)}">{text}</button>'


def _data(act: str, adapter: str, before: int | None, after: int) -> str:
    return f'data-move="{act}" data-adapter="{escape(adapter)}" data-before="{before or ""}" data-after="{after}"'


def _history(adapter: Adapter) -> str:
    moves = adapter["history"][:SHOWN_MOVES]
    if not moves:
        return ""
    lines = "".join(f"<li>{_move(move)}</li>" for move in moves)
    return f"<details><summary>Latest changes</summary><ol>{lines}</ol></details>"


def _move(move: dict[str, Any]) -> str:
    before, after = (f"version {n}" if n else "none" for n in (move["before"], move["after"]))
    by = f" by {escape(move['who'])}" if move["who"] else ""
    why = f": {escape(move['why'])}" if move["why"] else ""
    when = escape(move["time"][:16].replace("T", " "))
    forced = ", although it failed its exam" if move.get("against") else ""
    return f"<time>{when} UTC</time> {escape(move['alias'])} from {before} to {after}{by}{forced}{why}"
