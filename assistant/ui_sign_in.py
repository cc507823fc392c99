"""Signing in to the page: a form of its own, because Gradio's cannot say what went wrong, and Gradio's hook behind it.

The gateway knows the people. What it gives for name and password, a session token, is kept in a cookie that no script
can read; the token ends with the user, with a new password and with a sign-out. As soon as there are users, whoever
has no token sees the form, and nothing of the page answers them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from html import escape
from typing import Annotated

from fastapi import FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from assistant.client import GatewayError
from assistant.ui_people import COOKIE, People, token_of

SESSION_S = 7 * 24 * 3600  # as long as the gateway's sessions last
ENDED = "Please sign in to go on."
STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --card: #fff; --line: #8a8c93; --ink: #1f2023; --brand: #3f5e8c;
  --on-brand: #fff; --warn: #fff5e0; --warn-ink: #7a4300; }
@media (prefers-color-scheme: dark) { :root { --page: #17181a; --card: #1f2023; --line: #7d8088; --ink: #ececea;
  --brand: #8fa9d1; --on-brand: #16181d; --warn: #33280f; --warn-ink: #f3c987; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100dvh; display: grid; place-items: center; padding: 20px; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { width: 100%; max-width: 380px; padding: 28px; border-radius: 16px; background: var(--card);
  border: 1px solid color-mix(in srgb, var(--line) 35%, transparent); }
h1 { margin: 0 0 18px; font-size: 20px; }
label { display: block; margin: 0 0 4px; font-size: 14px; font-weight: 500; }
input { width: 100%; margin: 0 0 16px; padding: 10px 12px; border: 1px solid var(--line); border-radius: 11px;
  background: var(--page); color: inherit; font: inherit; }
button { width: 100%; padding: 11px; border: 0; border-radius: 11px; background: var(--brand); color: var(--on-brand);
  font: inherit; font-weight: 600; cursor: pointer; }
:is(input, button):focus-visible { outline: 2px solid var(--brand); outline-offset: 2px; }
.problem { margin: 0 0 16px; padding: 10px 12px; border-radius: 11px; background: var(--warn); color: var(--warn-ink);
  font-size: 14px; }
"""
CSS = """
/* who is signed in: beside the tabs, above them where there is no room */
.main:has(.signed-in) { position: relative; }
.block:has(> .html-container .signed-in) { position: absolute !important; top: 2px; right: 0; z-index: 4;
  width: auto; }
.signed-in.signed-in { display: flex; justify-content: flex-end; align-items: center; gap: 10px; font-size: 13px;
  color: var(--soft); }
.signed-in span { max-width: 30ch; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.signed-in form { margin: 0; }
.signed-in.signed-in button { width: auto; margin: 0; padding: 2px 9px; border: 1px solid var(--line);
  border-radius: 8px; background: none; color: var(--ink); font: 500 13px/1.6 var(--font); cursor: pointer; }
.signed-in.signed-in button:hover { background: var(--bot); }
@media (max-width: 860px) {
  .block:has(> .html-container .signed-in) { position: static !important; width: 100%; margin-bottom: -12px; }
  .gradio-container:has(.signed-in) #tab-chat > .column { height: calc(100dvh - 96px); }
}
"""


def add_sign_in(app: FastAPI, people: People) -> Callable[[Request], Awaitable[str]]:
    """Add the form to `app`; gives Gradio's `auth_dependency`: who is signed in, "" where nobody signs in."""

    @app.get("/sign-in")
    def form(tab: str = "") -> HTMLResponse:
        return HTMLResponse(form_html(tab))

    @app.post("/sign-in")
    def sign_in(
        request: Request, name: Annotated[str, Form()] = "", password: Annotated[str, Form()] = "", tab: str = ""
    ) -> Response:
        try:
            token = people.with_token("").sign_in(name.strip(), password)["token"]
        except GatewayError as error:
            return HTMLResponse(form_html(tab, name, str(error)), error.status or 503)
        home = RedirectResponse(f"/?tab={tab}" if tab.isalnum() else "/", 303)
        home.set_cookie(
            COOKIE, token, SESSION_S, httponly=True, samesite="lax", secure=request.url.scheme == "https"
        )  # fmt: skip
        return home

    @app.post("/sign-out")
    def sign_out(request: Request) -> Response:
        people.end(token_of(request))
        home = RedirectResponse("/sign-in", 303)
        home.delete_cookie(COOKIE)
        return home

    return lambda request: asyncio.to_thread(_who, people, request)


def _who(people: People, request: Request) -> str:
    """The visitor's name. A browser that opens the page without one is sent to the form; anything else gets 401."""
    try:
        me = people.holder("")
        if me["sign_in"]:
            me = people.holder(token) if (token := token_of(request)) else me
    except GatewayError as error:
        if error.status != 401:
            # Nothing can be asked of a gateway that is away; the page itself says so.
            return ""
        me = {"sign_in": True}
    if not me["sign_in"]:
        return ""
    if name := me.get("name"):
        return str(name)
    if request.method == "GET" and request.url.path == "/":
        tab = request.query_params.get("tab", "")
        raise HTTPException(303, ENDED, headers={"Location": f"/sign-in?tab={tab}" if tab.isalnum() else "/sign-in"})
    raise HTTPException(401, ENDED)


def form_html(tab: str = "", name: str = "", problem: str = "") -> str:
    """The form, with what went wrong."""
    said = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    at = f"/sign-in?tab={tab}" if tab.isalnum() else "/sign-in"
    focus = ("", " autofocus") if name else (" autofocus", "")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sign in</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f'<body><main><h1>Sign in</h1>{said}<form method="post" action="{at}"><label for="name">Name</label>'
        f'<input id="name" name="name" autocomplete="username" required value="{escape(name)}"{focus[0]}>'
        '<label for="password">Password</label><input id="password" name="password" type="password" '
        f'autocomplete="current-password" required{focus[1]}><button>Sign in</button></form></main></body></html>'
    )


def signed_in_html(name: str | None) -> str:
    """The line at the top of the page: who is signed in, and the way out."""
    if not name:
        return ""
    return (
        f'<div class="signed-in"><span>Signed in as {escape(name)}</span>'
        '<form method="post" action="/sign-out"><button>Sign out</button></form></div>'
    )
