"""The tab Adapters: which version of each adapter answers, and the buttons that change it. Needs the admin key.

The tab is one piece of HTML (`ui_versions`) whose buttons report what they mean; every click shows the gateway's
present state, so the tab holds none.
"""

from collections.abc import Iterator

import gradio as gr

from assistant.client import GatewayError
from assistant.ui_loop import LoopHistory
from assistant.ui_people import People
from assistant.ui_runs import RunsList
from assistant.ui_versions import Adapter, Plan, adapters_html, done, problem

WHO = "page"  # in the history of moves
# The listener is on the component, so it outlives its content. A question takes the keyboard's focus.
SCRIPT = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (button) trigger("click", {...button.dataset});
});
watch("value", () => element.querySelector("[data-focus]")?.focus());
"""


class AdaptersTab:
    """The components of the tab and what they do; build it inside `gr.Tab`."""

    def __init__(self, people: People) -> None:
        self._people = people
        with gr.Row(elem_classes="topline"):
            gr.HTML(
                "<h1>Adapters</h1><p>Which version of each trained voice answers. "
                "A change takes effect at once and interrupts nobody.</p>",
                elem_classes="intro",
            )
            refresh = gr.Button("Refresh", size="sm", variant="secondary", min_width=90, elem_id="refresh")
        self._list = gr.HTML(js_on_load=SCRIPT, elem_classes="adapters", elem_id="adapters")
        self._loops = LoopHistory(people)
        self._runs = RunsList(people)
        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        # By default a click is dropped while the answer to the one before is still on its way: a quick hand's Enter.
        self._list.click(self._clicked, None, self._list, trigger_mode="multiple", **quiet)
        refresh.click(self.show, None, self.outputs, **quiet)

    @property
    def outputs(self) -> list[gr.Component]:
        """What `show` fills."""
        return [self._list, self._loops.output, self._runs.output]

    def show(self, request: gr.Request) -> list[str]:
        """All adapters, how they got better, and the latest trainings, as they are now."""
        return [self._page(request), self._loops.show(request), self._runs.show(request)]

    def _clicked(self, event: gr.EventData, request: gr.Request) -> Iterator[str]:
        data = dict(event._data)
        if data["act"] == "cancel":
            yield self._page(request)
            return
        plan = Plan.of(data)
        if data["act"] == "ask":
            yield self._page(request, asked=plan)
            return
        yield self._page(request, asked=plan, running=True)
        yield self._page(request, self._move(plan, request))

    def _move(self, plan: Plan, request: gr.Request) -> str:
        """Do what was confirmed; gives what to say of it."""
        try:
            admin, who = self._people.admin(request), self._people.named(request).get("user", WHO)
            adapter = admin.adapter(plan.adapter)
            if adapter["aliases"].get("stable") == plan.after:  # a double click
                return done(plan)
            if not plan.still_holds(adapter):
                return problem(f"{plan.adapter} was changed by somebody else meanwhile. Look again and decide anew.")
            if plan.act == "rollback":
                admin.rollback(plan.adapter, who, "rolled back")
            else:
                admin.set_alias(plan.adapter, "stable", plan.after, who, "promoted", force=plan.force)
        except GatewayError as error:
            kept = f" Version {plan.before} goes on answering." if plan.before else ""
            return problem(
                f"Version {plan.after} of {plan.adapter} was not made stable: {str(error).rstrip('.')}.{kept}"
            )
        return done(plan)

    def _page(self, request: gr.Request, said: str = "", asked: Plan | None = None, running: bool = False) -> str:
        try:
            adapters: list[Adapter] = self._people.admin(request).adapters()
        except GatewayError as error:
            return said + problem(f"The adapters cannot be shown right now: {error}")
        return adapters_html(adapters, said, asked, running)
