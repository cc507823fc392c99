"""Who looks at the page, and the gateway's client that acts for them.

Where people sign in, the page asks the gateway with its own admin key and the header `x-brogue-user`: the gateway
decides what that person may do, whatever the page shows. Where nobody signs in, visitors are asked for no name.
"""

from typing import TYPE_CHECKING, Any

import gradio as gr

from assistant.client import Admin, Client

if TYPE_CHECKING:
    from assistant.client_feedback import FeedbackClient

ACTS_FOR = "x-brogue-user"


class People:
    """The visitors of one page, whose gateway is at `url`; `key` is the admin key, if the page has it."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._key = key

    @property
    def has_key(self) -> bool:
        return self._key is not None

    def client(self, request: gr.Request | None = None) -> "FeedbackClient":
        """For chatting and for feedback: acts for who is signed in, else for nobody in particular."""
        from assistant.client_feedback import FeedbackClient

        return FeedbackClient(self.url, self._headers(name_of(request)) if name_of(request) else {})

    def admin(self, request: gr.Request | None = None) -> Admin:
        """For what takes an admin; the gateway refuses (403) where the person who is signed in is none."""
        admin = Admin(self.url, self._key or "")
        admin.headers = self._headers(name_of(request))
        return admin

    def me(self, request: gr.Request | None = None) -> dict[str, Any]:
        """GET /v1/me for this visitor. Raises `GatewayError`."""
        name = name_of(request)
        client = Client(self.url, self._headers(name) if name else {})
        return client._ask("GET", "/v1/me", timeout=10)

    def _headers(self, name: str | None) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        return headers | ({ACTS_FOR: name} if name else {})


def name_of(request: gr.Request | None) -> str | None:
    """Who is signed in."""
    return getattr(request, "username", None) or None
