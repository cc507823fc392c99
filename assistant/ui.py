"""The page: a Gradio app that talks to the gateway over HTTP like any other client.

    python -m assistant.ui http://127.0.0.1:8000 127.0.0.1 7860

It holds no state of its own; the list of assistants is asked for whenever somebody loads the page. Everything comes
from this server: no outside font, script, picture or statistics. Gradio takes seconds to import, hence inside.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

from assistant.client import Admin, Client, GatewayError
from assistant.ui_brand import Voice, empty_state

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

VISITORS = 32  # answers that can be written at the same time; Gradio's own default is one
# A model can write a picture's address into its answer; the browser must not go and fetch it.
CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:"
)


def build_page(client: Client, admin: Admin | None = None) -> "gr.Blocks":
    """The page with its tabs, each with an address: `/`, `/?tab=compare`; for admins `adapters`, `knowledge`, too."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
    import gradio as gr

    from assistant.ui_adapters import AdaptersTab
    from assistant.ui_chat import ChatTab
    from assistant.ui_compare import CompareTab
    from assistant.ui_knowledge import KnowledgeTab

    with gr.Blocks(title="Brogue", analytics_enabled=False) as page:
        team: gr.State = gr.State({})
        nobody = gr.HTML(visible=False)
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Chat", id="chat", elem_id="tab-chat"):
                chat = ChatTab(client, team)
            with gr.Tab("Compare voices", id="compare", elem_id="tab-compare"):
                compare = CompareTab(client, team)
            if admin is not None:
                with gr.Tab("Adapters", id="adapters", elem_id="tab-adapters") as tab:
                    adapters = AdaptersTab(admin)
                tab.select(adapters.show, None, adapters.output, show_progress="hidden", api_visibility="private")
                with gr.Tab("Knowledge", id="knowledge", elem_id="tab-knowledge") as tab:
                    knowledge = KnowledgeTab(admin)
                tab.select(
                    knowledge.show, knowledge.inputs, knowledge.outputs, show_progress="hidden",
                    api_visibility="private",
                )  # fmt: skip

        def load(request: gr.Request) -> list[Any]:
            voices, problem = load_team(client)
            asked = request.query_params.get("tab")
            selected = asked if asked in {tab.id for tab in tabs.children} else "chat"
            return [
                voices,
                gr.HTML(value="" if voices else empty_state(problem), visible=not voices),
                gr.Tabs(selected=selected, visible=bool(voices)),
                *chat.show(voices),
                *compare.show(voices),
            ]

        outputs = [team, nobody, tabs, *chat.outputs, *compare.outputs]
        page.load(load, None, outputs, show_progress="hidden", api_visibility="private")
    return page.queue(default_concurrency_limit=VISITORS)


def load_team(client: Client) -> tuple[dict[str, Voice], str | None]:
    """The assistants by id, or why they cannot be had."""
    try:
        return {entry["id"]: Voice.of(entry) for entry in client.assistants()}, None
    except GatewayError as error:
        return {}, str(error)


def build_app(page: "gr.Blocks") -> "FastAPI":
    """The web application around the page: its look, and the rule that a browser fetches nothing from elsewhere."""
    import gradio as gr
    from fastapi import FastAPI

    from assistant.ui_style import HEAD, build_theme

    app = FastAPI(openapi_url=None)
    app.add_middleware(ForbidOutsideRequests)
    gr.mount_gradio_app(
        app, page, path="/", theme=build_theme(), head=HEAD, footer_links=[], ssr_mode=False, show_error=False
    )
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


def serve_page(gateway_url: str, host: str, port: int) -> None:
    """Serve the page until the process is told to stop; with an admin key in the environment, the admin's tabs too."""
    import uvicorn

    url, key = gateway_url.rstrip("/"), os.environ.get("BROGUE_ADMIN_KEY")
    app = build_app(build_page(Client(url), Admin(url, key) if key else None))
    # Open pages hold a connection for ever; without a limit they would hold up the exit as well.
    uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=2)


if __name__ == "__main__":
    serve_page(sys.argv[1], sys.argv[2], int(sys.argv[3]))
