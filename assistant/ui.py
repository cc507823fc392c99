"""The page: a Gradio app that talks to the gateway over HTTP like any other client.

    python -m assistant.ui http://127.0.0.1:8000 '{"port": 7860}'

It holds no state of its own; the list of assistants is asked for whenever somebody loads the page. Everything comes
from this server: no outside font, script, picture or statistics. Gradio takes seconds to import, hence inside.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

from assistant.client import GatewayError
from assistant.ui_brand import Voice, empty_state
from data.settings import Address

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from assistant.ui_people import People

# Whose tabs a role sees besides the ones for everybody.
MAY = {"user": (), "rater": ("rater",), "admin": ("rater", "admin")}
VISITORS = 32  # answers that can be written at the same time; Gradio's own default is one
FOCUS = "() => document.querySelector('#message textarea')?.focus()"  # it could not take it before
# A model can write a picture's address into its answer; the browser must not go and fetch it.
CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:"
)


def build_page(people: "People") -> "gr.Blocks":
    """The page with its tabs, each with an address: `/`, `/?tab=compare`, …; shown by role."""
    import gradio as gr

    from assistant.ui_adapters import AdaptersTab
    from assistant.ui_chat import ChatTab
    from assistant.ui_compare import CompareTab
    from assistant.ui_knowledge import KnowledgeTab
    from assistant.ui_people import name_of
    from assistant.ui_rank import RankTab
    from assistant.ui_sign_in import signed_in_html

    with gr.Blocks(title="Brogue", analytics_enabled=False) as page:
        team: gr.State = gr.State({})
        who = gr.HTML(visible=False)
        nobody = gr.HTML(visible=False)
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Chat", id="chat", elem_id="tab-chat"):
                chat = ChatTab(people, team)
            with gr.Tab("Compare voices", id="compare", elem_id="tab-compare"):
                compare = CompareTab(people, team)
            with gr.Tab("Rank", id="rank", elem_id="tab-rank", visible=False) as rank_tab:
                rank = RankTab(people)
            with gr.Tab("Adapters", id="adapters", elem_id="tab-adapters", visible=False) as adapters_tab:
                adapters = AdaptersTab(people)
            with gr.Tab("Knowledge", id="knowledge", elem_id="tab-knowledge", visible=False) as knowledge_tab:
                knowledge = KnowledgeTab(people)
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        rank_tab.select(rank.show, None, rank.outputs, **quiet)
        adapters_tab.select(adapters.show, None, adapters.outputs, **quiet)
        knowledge_tab.select(knowledge.show, knowledge.inputs, knowledge.outputs, **quiet)
        shown_to = {
            "rank": (rank_tab, "rater"),
            "adapters": (adapters_tab, "admin"),
            "knowledge": (knowledge_tab, "admin"),
        }

        def load(request: gr.Request) -> list[Any]:
            voices, me, problem = look(people, request)
            may = MAY[people.role(request)]
            visible = {id: role in may for id, (_, role) in shown_to.items()}
            asked = request.query_params.get("tab")
            known = {tab.id for tab in tabs.children}
            selected = asked if asked in known and visible.get(str(asked), True) else "chat"
            line = signed_in_html(name_of(request))
            return [
                voices,
                gr.HTML(value=line, visible=bool(line)),
                gr.HTML(value="" if voices else empty_state(problem), visible=not voices),
                gr.Tabs(selected=selected, visible=bool(voices)),
                *(gr.Tab(visible=is_shown) for is_shown in visible.values()),
                *chat.show(voices, me.get("logging", "")),
                *compare.show(voices),
            ]

        role_tabs = [tab for tab, _ in shown_to.values()]
        outputs = [team, who, nobody, tabs, *role_tabs, *chat.outputs, *compare.outputs]
        page.load(load, None, outputs, **quiet).then(None, None, None, js=FOCUS, **quiet)
    return page.queue(default_concurrency_limit=VISITORS)


def look(people: "People", request: "gr.Request") -> tuple[dict[str, Voice], dict[str, Any], str | None]:
    """The assistants by id, what the gateway says of the visitor, or why neither can be had."""
    try:
        me = people.me(request)
        return {entry["id"]: Voice.of(entry) for entry in people.client(request).assistants()}, me, None
    except GatewayError as error:
        return {}, {}, str(error)


def build_app(people: "People") -> "FastAPI":
    """The page as a web application: its look, who may see it, and that a browser fetches nothing from elsewhere."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
    import gradio as gr
    from fastapi import FastAPI

    from assistant.ui_loop import add_reports
    from assistant.ui_sign_in import add_sign_in
    from assistant.ui_style import HEAD, build_theme

    app = FastAPI(openapi_url=None)
    app.add_middleware(ForbidOutsideRequests)
    add_reports(app, people)
    gr.mount_gradio_app(
        app, build_page(people), path="/", theme=build_theme(), head=HEAD, footer_links=[], ssr_mode=False,
        show_error=False, auth_dependency=add_sign_in(app, people),
        run_history=False,  # else Gradio keeps what is asked and answered in the browser, for whoever sits there next
    )  # fmt: skip
    return app


class ForbidOutsideRequests:
    """ASGI middleware: each response carries the content policy.

    Not Starlette's `BaseHTTPMiddleware`: it stands between a response and its reader, and with it Gradio now and then
    misses that a visitor has closed the page, so that an answer is written to its end for nobody.
    """

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Hand the request on, and add the header to what comes back."""

        async def send_with_policy(message: "Message") -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", CONTENT_POLICY.encode())
                message = {**message, "headers": [*message.get("headers", []), policy]}
            await send(message)

        await self._app(scope, receive, send_with_policy)


def serve_page(gateway_url: str, address: Address) -> None:
    """Serve the page until the process is told to stop; with an admin key in the environment, the admin's tabs too."""
    import uvicorn

    from assistant.ui_people import People

    app = build_app(People(gateway_url, os.environ.get("BROGUE_ADMIN_KEY")))
    # Open pages hold a connection for ever; without a limit they would hold up the exit as well.
    uvicorn.run(
        app, host=address.host, port=address.port, log_level="warning", timeout_graceful_shutdown=2,
        server_header=False, ssl_certfile=address.tls_certificate, ssl_keyfile=address.tls_key,
        proxy_headers=address.behind_proxy, forwarded_allow_ips="*" if address.behind_proxy else None,
    )  # fmt: skip


if __name__ == "__main__":
    serve_page(sys.argv[1], Address.model_validate_json(sys.argv[2]))
