"""Who looks at the page, and the gateway's client that acts for them.

Where people sign in, a visitor's session token is in a cookie, and the page asks the gateway with that token: the
gateway decides what this person may do, whatever the page shows. Where nobody signs in, visitors have no name, and
what takes an admin is asked with the page's own key.
"""

import re
import time
from contextlib import suppress
from typing import Any

import gradio as gr

from assistant.client import Admin, GatewayError
from assistant.client_feedback import FeedbackClient

COOKIE = "brogue-session"
FRESH_S = 5.0  # so long the gateway is believed who a visitor is
REMEMBERED = 1_000  # visitors

Me = dict[str, Any]  # as GET /v1/me gives it


class People:
    """The visitors of one page, whose gateway is at `url`; `key` is the admin key, if the page has it."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._key = key
        self._known: dict[str, tuple[float, Me]] = {}  # by token; "" is who has none
        self._guarded = False  # people have had to sign in: the key serves nobody else from then on

    def client(self, request: gr.Request | None = None) -> FeedbackClient:
        """For chatting and for feedback: acts for who is signed in, else for nobody in particular."""
        return self.with_token(self._token(request) or self._stand_in())

    def with_token(self, token: str) -> FeedbackClient:
        """The client of who holds this session token; for "", of nobody in particular."""
        return FeedbackClient.with_key(self.url, token) if token else FeedbackClient(self.url)

    def admin(self, request: gr.Request | None = None) -> Admin:
        """For what takes an admin; the gateway refuses (403) where the person who is signed in is none. Raises
        `GatewayError` where it cannot be asked whether people sign in."""
        key = self._token(request) or self._own_key()
        admin = Admin(self.url, key)
        if not key:
            admin.headers = {}
        return admin

    def manager(self, request: gr.Request | None = None) -> FeedbackClient:
        """As `admin`, for /v1/feedback and /v1/users."""
        return FeedbackClient(self.url, self.admin(request).headers)

    def me(self, request: gr.Request | None = None) -> Me:
        """GET /v1/me for this visitor, at most `FRESH_S` old. Raises `GatewayError`, 401 for an ended session."""
        return self.holder(self._token(request))

    def named(self, request: gr.Request | None = None) -> dict[str, str]:
        """For a request's body: {"user": who is signed in}; nothing where nobody is."""
        name = name_of(request)
        return {"user": name} if name else {}

    def holder(self, token: str) -> Me:
        """The same by token; "" for none."""
        asked, me = self._known.get(token, (0.0, {}))
        if time.monotonic() - asked > FRESH_S or not asked:
            self._known.pop(token, None)
            me = self.with_token(token).me()
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[token] = (time.monotonic(), me)
            self._guarded = self._guarded or me["sign_in"]
        return me

    def refresh(self) -> None:
        """Ask the gateway anew who everybody is, and whether people sign in."""
        self._known.clear()
        self._guarded = False

    def end(self, token: str) -> None:
        """Sign out who holds this token; if the gateway cannot be told, the browser forgets it all the same."""
        self._known.pop(token, None)
        if token:
            with suppress(GatewayError):
                self.with_token(token).sign_out()

    def role(self, request: gr.Request | None = None) -> str:
        """What this visitor may see: user, rater or admin."""
        try:
            me = self.me(request)
        except GatewayError:
            return "user"
        if me["sign_in"]:
            return str(me["role"] or "user")
        return "admin" if self._key and not self._guarded else "rater"

    def _token(self, request: gr.Request | None) -> str:
        """The visitor's token; none where nobody signs in, since a cookie may have outlived the last user."""
        token = token_of(request)
        with suppress(GatewayError):
            return token if token and self.holder("")["sign_in"] else ""
        return token

    def _stand_in(self) -> str:
        """The page's own key where the gateway wants one of everybody and nobody signs in; "" elsewhere."""
        with suppress(GatewayError):
            me = self.holder("")
            return (self._key or "") if me["role"] is None and not me["sign_in"] and not self._guarded else ""
        return ""

    def _own_key(self) -> str:
        """The page's own key; "" where people sign in, since a visitor without a token has no rights there."""
        self.holder("")
        return "" if self._guarded else self._key or ""


def token_of(request: Any) -> str:
    """The visitor's session token; "" for none."""
    token = str((getattr(request, "cookies", None) or {}).get(COOKIE) or "")
    return token if re.fullmatch(r"[A-Za-z0-9._~-]{1,500}", token) else ""  # anything else fits into no header


def name_of(request: gr.Request | None) -> str | None:
    """Who is signed in; none where nobody signs in."""
    return getattr(request, "username", None) or None
