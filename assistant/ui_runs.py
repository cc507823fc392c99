"""Under the adapters: what is being trained now and how far it is, and the curves of what was trained. For admins.

One piece of HTML, drawn from the gateway's /v1/runs. Which curves are open is known to the browser, which asks anew
every few seconds while something is being trained and the tab is looked at. The curves are SVG in the page's colours.
"""

from collections.abc import Iterable
from functools import lru_cache
from html import escape
from typing import Any

import gradio as gr

from adapters.curves import Panel
from adapters.progress import TrainProgress
from assistant.client import Admin, GatewayError
from assistant.run_plot import svg
from assistant.ui_brand import notice
from assistant.ui_people import People

RunFields = dict[str, Any]  # as GET /v1/runs gives it
SHOWN = 12
STATES = {"running": "in training", "stopped": "stopped halfway", "failed": "went wrong"}

CSS = """
#runs { --bar: var(--accent); --alarm: var(--warn-ink); }
#runs :is(h2, h3, p, ul, figure) { margin: 0 !important; }
#runs h2 { font-size: 16px !important; font-weight: 650 !important; line-height: 1.4 !important; }
#runs h3 { display: inline; font-size: 14.5px !important; font-weight: 600 !important; line-height: 1.4 !important; }
#runs .card { padding: 16px 18px; border: 1px solid var(--line); border-radius: 16px; background: var(--card); }
#runs ul { list-style: none; padding: 0 !important; margin-top: 12px !important; }
#runs li { padding: 9px 0; margin: 0; border-top: 1px solid var(--line); }
#runs li::marker { content: none; }
#runs summary { display: flex; flex-wrap: wrap; align-items: center; gap: 2px 12px; cursor: pointer; list-style: none; }
#runs summary::before { content: ""; flex: none; width: 7px; height: 7px; margin-right: -2px; rotate: -45deg;
  border: solid var(--soft); border-width: 0 1.5px 1.5px 0; }
#runs details[open] > summary::before { rotate: 45deg; }
#runs summary:hover h3 { text-decoration: underline; }
#runs :is(.facts, .how, .nothing) { font-size: 13.5px; color: var(--soft) !important; line-height: 1.5; }
#runs .how { padding: 6px 0 0 19px; overflow-wrap: anywhere; }
#runs .reason { color: var(--warn-ink) !important; }
#runs .tag.running { border-color: var(--accent); color: var(--accent) !important; }
#runs progress { display: block; width: 100%; height: 8px; margin-bottom: 4px; border: 0; border-radius: 99px;
  overflow: hidden; appearance: none; background: var(--bot); }
#runs progress::-webkit-progress-bar { background: var(--bot); }
#runs progress::-webkit-progress-value { background: var(--accent); }
#runs progress::-moz-progress-bar { background: var(--accent); }
#runs .curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 14px 24px;
  padding: 12px 0 6px; }
#runs figure { min-width: 0; max-width: 520px; }
#runs figcaption { font-size: 13.5px; font-weight: 600; }
#runs svg { display: block; width: 100%; height: auto; }
@media (max-width: 640px) { #runs .card { padding: 14px; } #runs .how { padding-left: 0; } }
"""
# A click on a run's name opens or closes it; then, and while something is being trained, the page is asked anew and
# told which are open. The keyboard's focus stays where it was.
SCRIPT = """
let focused = null;
const ask = () => {
  const open = [...element.querySelectorAll("details[open]")].map((one) => one.dataset.run);
  trigger("click", {open});
};
element.addEventListener("click", (event) => {
  if (event.target.closest("summary")) setTimeout(ask);
});
element.addEventListener("focusin", (event) => { focused = event.target.closest("details")?.dataset.run; });
element.addEventListener("focusout", (event) => {
  setTimeout(() => { if (event.target.isConnected) focused = null; });
});
watch("value", () => {
  const same = [...element.querySelectorAll("details")].find((one) => one.dataset.run === focused);
  if (document.activeElement === document.body) same?.querySelector("summary").focus({preventScroll: true});
});
setInterval(() => {
  if (element.offsetParent && !document.hidden && element.querySelector("progress")) ask();
}, 3000);
"""


class RunsList:
    """The component and what it does; build it inside the tab."""

    def __init__(self, people: People) -> None:
        self._people = people
        self.output = gr.HTML(js_on_load=SCRIPT, elem_id="runs")
        self.output.click(
            self._clicked, None, self.output, trigger_mode="always_last", show_progress="hidden",
            api_visibility="private",
        )  # fmt: skip

    def show(self, request: gr.Request, opened: Iterable[str] = ()) -> str:
        """The runs as they are now, with the curves of those that are open."""
        try:
            admin = self._people.admin(request)
            listed = admin.runs()[:SHOWN]
            return runs_html(listed, {id: _curves(admin, id) for id in opened if id in {run["id"] for run in listed}})
        except GatewayError as error:
            return notice(f"The trainings cannot be shown right now: {error}")

    def _clicked(self, event: gr.EventData, request: gr.Request) -> str:
        return self.show(request, [str(id) for id in dict(event._data).get("open", ())])


def runs_html(runs: list[RunFields], opened: dict[str, list[Panel]]) -> str:
    """The runs, the newest first; `opened`: the curves of those whose curves are shown."""
    if not runs:
        return ""
    rows = "".join(f"<li>{_run(run, opened.get(run['id']))}</li>" for run in runs)
    return f'<section class="card"><h2>Training</h2><ul>{rows}</ul></section>'


def _curves(admin: Admin, id: str) -> list[Panel]:
    return [Panel.model_validate(panel) for panel in admin.run(id)["curves"]]


def _run(run: RunFields, shown: list[Panel] | None) -> str:
    state, asked = run["state"], run["asked"]
    adapter, _, number = (run["version"] or asked["adapter"]).partition("@")
    title = f"{adapter}, version {number}" if number else f"{adapter}, a new version"
    kind = "refused" if state == "failed" else escape(state)
    tag = f'<span class="tag {kind}">{STATES[state]}</span>' if state in STATES else ""
    when = escape(asked["created"][:16].replace("T", " "))
    facts = f"{escape(run['recipe'])} on {escape(asked['dataset'])} · {when} UTC"
    is_open = "" if shown is None else " open"
    return (
        f'<details data-run="{escape(run["id"])}"{is_open}><summary><h3>{escape(title)}</h3>{tag}'
        f'<span class="facts">{facts}</span></summary>{_figures(shown)}</details>{_how(run, title)}'
    )


def _figures(shown: list[Panel] | None) -> str:
    if shown is None:
        return '<p class="how">The curves are on their way …</p>'
    if not shown:
        return '<p class="how">Nothing has been measured yet.</p>'
    figures = (
        f'<figure><figcaption>{escape(panel.title)}</figcaption><div role="img" aria-label="{escape(panel.words)}">'
        f"{_drawn(panel)}</div></figure>"
        for panel in shown
    )
    return f'<div class="curves">{"".join(figures)}</div>'


@lru_cache(maxsize=128)  # while one is being trained the others are asked for again and again
def _drawn(panel: Panel) -> str:
    return svg(panel)


def _how(run: RunFields, title: str) -> str:
    """How far it is, or why there is nothing to come."""
    if run["state"] == "failed" and run["reason"]:
        return f'<p class="how reason">{escape(run["reason"])}</p>'
    if run["state"] != "running":
        return ""
    if not run["progress"]:
        return '<div class="how"><progress aria-label="Being prepared"></progress>It is being prepared.</div>'
    now = TrainProgress.model_validate(run["progress"])
    what = "Step" if now.phase == "training" else "Being measured:"
    label = f'aria-label="{escape(title)}: {escape(now.phase)}"'
    return (
        f'<div class="how"><progress value="{now.step}" max="{now.steps}" {label}></progress>'
        f"{what} {now.step} of {now.steps} · {escape(now.words)}</div>"
    )
