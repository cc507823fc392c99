"""Under the adapters: how each got better, version by version, and the button that starts a retrain. For admins.

One piece of HTML (`ui_loop_html`). While a retrain runs and the tab is looked at, the browser asks anew every few
seconds. A report is opened in a window of its own, fetched by the page, since a browser has no key of the gateway.
"""

import asyncio
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr
from fastapi import Request
from fastapi.responses import HTMLResponse

from assistant.client import Admin, GatewayError
from assistant.report_html import frame
from assistant.ui_brand import notice
from assistant.ui_loop_html import Asked, Loop, loops_html
from assistant.ui_people import People
from serve.exams import REPORT_POLICY

if TYPE_CHECKING:
    from fastapi import FastAPI

CSS = """
#loops { --bar: var(--accent); --alarm: var(--warn-ink); }
#loops :is(h2, h3, p, ul, ol, figure) { margin: 0 !important; }
#loops h2 { font-size: 16px !important; font-weight: 650 !important; line-height: 1.4 !important; }
#loops h3 { font-size: 14.5px !important; font-weight: 600 !important; line-height: 1.4 !important; }
#loops .card { padding: 16px 18px; border: 1px solid var(--line); border-radius: 16px; background: var(--card); }
#loops .card + .card { margin-top: 14px; }
#loops :is(header, .what, .choice) { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 12px; }
#loops header { justify-content: space-between; }
#loops header > div { flex: 1 1 260px; }
#loops :is(header p, .facts, .how, .nothing, summary, details ol) { font-size: 13.5px; line-height: 1.5;
  color: var(--soft) !important; overflow-wrap: anywhere; }
#loops .how { padding-top: 12px; } #loops .said { font-family: ui-monospace, monospace !important; font-size: 12.5px; }
#loops .reason { padding-top: 10px; font-size: 13.5px; color: var(--warn-ink) !important; overflow-wrap: anywhere; }
#loops .curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 260px), 1fr)); gap: 14px 24px;
  padding: 14px 0 4px; }
#loops figure { min-width: 0; max-width: 420px; }
#loops figcaption { font-size: 13.5px; font-weight: 600; }
#loops svg { display: block; width: 100%; height: auto; }
#loops .verdicts { list-style: none; padding: 0 !important; margin-top: 10px !important; }
#loops .verdicts li { margin: 0; padding: 9px 0; border-top: 1px solid var(--line); }
#loops .verdicts li::marker { content: none; }
#loops .verdicts a { font-size: 13.5px; font-weight: 500; text-decoration: underline; }
#loops .nothing { margin-top: 10px !important; }
#loops button { margin: 0 !important; padding: 6px 12px; border-radius: 9px; border: 1px solid var(--line);
  background: none; color: var(--ink); font-size: 13.5px; font-weight: 500; line-height: 1.4; cursor: pointer; }
#loops button:hover { background: var(--bot); }
#loops button.yes { border-color: transparent; background: var(--brand); color: var(--on-brand); }
#loops button.yes:hover { filter: brightness(1.1); }
#loops .question { margin-top: 12px; padding: 14px 16px; border-radius: 12px; background: var(--bot); font-size: 14px;
  line-height: 1.5; }
#loops .question p + p { color: var(--soft) !important; }
#loops .ways { display: grid; gap: 6px; margin: 12px 0 0; padding: 0; border: 0; }
#loops .ways legend { margin-bottom: 6px; padding: 0; font-size: 13.5px; font-weight: 600; color: var(--ink); }
#loops .ways label { display: flex; align-items: flex-start; gap: 8px; width: fit-content; cursor: pointer; }
#loops .ways input { flex: none; width: 16px; height: 16px; margin: 3px 0 0; appearance: auto; box-shadow: none;
  accent-color: var(--accent); }
.dark #loops .ways input { color-scheme: dark; }
#loops .ways small { font-size: 13px; color: var(--soft); }
#loops .choice { margin-top: 10px; } #loops .choice button:not(.yes):hover { background: var(--card); }
#loops progress { display: block; width: 100%; height: 8px; margin-bottom: 4px; border: 0; border-radius: 99px;
  overflow: hidden; appearance: none; background: var(--bot); }
#loops progress::-webkit-progress-bar { background: var(--bot); }
#loops progress::-webkit-progress-value { background: var(--accent); }
#loops progress::-moz-progress-bar { background: var(--accent); }
#loops details { border-top: 1px solid var(--line); padding-top: 10px; }
#loops summary { cursor: pointer; width: fit-content; }
#loops details ol { list-style: none; padding: 6px 0 0 !important; }
#loops details li { margin: 2px 0; }
#loops details time { color: var(--ink); font-variant-numeric: tabular-nums; }
#loops > .notice, #loops .html-container > .notice { margin-bottom: 14px !important; }
@media (max-width: 640px) { #loops .card { padding: 14px; } }
"""
# While a retrain runs the page is asked anew, but not under a question that waits or a list that is being read. A
# question that was asked for meanwhile, and is not here yet, is named: the answer to the look comes after it.
SCRIPT = """
let asked = "";
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (!button) return;
  const recipe = element.querySelector("input[name=recipe]:checked")?.value;
  asked = button.dataset.act === "ask" ? button.dataset.adapter : "";
  trigger("click", {...button.dataset, ...(recipe && {recipe})});
});
watch("value", () => element.querySelector("[data-focus]")?.focus());
setInterval(() => {
  const busy = element.querySelector("progress") && !element.querySelector(".question, details[open]");
  if (busy && element.offsetParent && !document.hidden) trigger("click", {act: "look", asked});
}, 3000);
"""
STARTS: dict[str, dict[str, Any]] = {"start": {}, "start-auto": {"auto": True}, "resume": {}}


class LoopHistory:
    """The component and what it does; build it inside the tab."""

    def __init__(self, people: People) -> None:
        self._people = people
        self.output = gr.HTML(js_on_load=SCRIPT, elem_id="loops")
        self.output.click(
            self._clicked, None, self.output, trigger_mode="multiple", show_progress="hidden", api_visibility="private"
        )

    def show(self, request: gr.Request, asked: Asked | None = None, said: str = "") -> str:
        """How all adapters that answer people got better, as it is now."""
        try:
            admin = self._people.admin(request)
            adapters = [one for one in admin.adapters() if one["aliases"]]
            return loops_html([_loop(admin, one["id"]) for one in adapters], adapters, said, asked)
        except GatewayError as error:
            return said + notice(f"How the adapters got better cannot be shown right now: {error}")

    def _clicked(self, event: gr.EventData, request: gr.Request) -> str:
        data = dict(event._data)
        act, adapter = str(data["act"]), str(data.get("adapter", ""))
        if act not in STARTS:
            asked = adapter if act == "ask" else str(data.get("asked", "")) if act == "look" else ""
            return self.show(request, Asked(asked) if asked else None)
        recipe = {} if act == "resume" else {"recipe": str(data.get("recipe", "dpo"))}
        try:
            self._people.admin(request).retrain(adapter, **recipe, **STARTS[act])
        except GatewayError as error:
            return self.show(request, said=notice(f"The retrain of {adapter} was not started: {error}"))
        return self.show(request)


def _loop(admin: Admin, adapter: str) -> Loop:
    return admin.loop(adapter)


def add_reports(app: "FastAPI", people: People) -> None:
    """Add /reports/ID to the page: an exam's report, for who may see it at the gateway."""

    @app.get("/reports/{id}")
    async def report(id: str, request: Request) -> HTMLResponse:
        try:
            text = await asyncio.to_thread(lambda: people.admin(request).exam_report(id))
        except GatewayError as error:
            text = frame("No report", f"<h1>This report cannot be shown</h1><p>{escape(str(error))}</p>")
            return HTMLResponse(text, error.status or 503, {"content-security-policy": REPORT_POLICY})
        return HTMLResponse(text, headers={"content-security-policy": REPORT_POLICY, "cache-control": "no-store"})
