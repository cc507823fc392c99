"""The client of /v1/feedback, /v1/me and /v1/users: what the Rank page, the command line and another front end ask.

Dictionaries come back as the gateway's OpenAPI (/openapi.json) describes them. All methods raise `GatewayError`, whose
message is the gateway's own line and whose `status` is HTTP's.
"""

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self
from urllib.parse import quote, urlencode

import httpx

from assistant.client import TIMEOUT, Client, GatewayError, message_of

USER_HEADER = "x-brogue-user"
SOON = 30.0  # seconds that anything but an answer may take
FEEDBACK = "/v1/feedback"


class FeedbackClient(Client):
    """One method for each route. Who asks is in the headers: a key or a token, and whom it acts for."""

    @classmethod
    def with_key(cls, url: str, key: str) -> Self:
        """One that holds the admin key, or a token from `sign_in`."""
        return cls(url, {"Authorization": f"Bearer {key}"})

    def as_user(self, name: str | None) -> Self:
        """One that acts for a person, with that person's role; with None, for nobody in particular."""
        headers = {key: value for key, value in self.headers.items() if key != USER_HEADER}
        return replace(self, headers=headers | ({USER_HEADER: quote(name)} if name else {}))

    def me(self) -> dict[str, Any]:
        """{"name", "role", "sign_in", "logging", "reasons": {"up", "down"}}; name and role None: sign in first."""
        return self._ask("GET", "/v1/me", timeout=SOON)

    def sign_in(self, name: str, password: str) -> dict[str, Any]:
        """{"token", "name", "role", "expires"}; status 401 for a wrong password, 429 after too many."""
        return self._ask("POST", "/v1/sign-in", {"name": name, "password": password}, timeout=SOON)

    def sign_out(self) -> None:
        """End the session whose token this client holds."""
        self._ask("POST", "/v1/sign-out", timeout=SOON)

    def users(self) -> list[dict[str, Any]]:
        """All people: {"name", "role", …}."""
        return list(self._ask("GET", "/v1/users", timeout=SOON)["data"])

    def add_user(self, name: str, password: str, role: str) -> dict[str, Any]:
        """Let a person sign in."""
        return self._ask("POST", "/v1/users", {"name": name, "password": password, "role": role}, timeout=SOON)

    def change_user(self, name: str, **changes: Any) -> dict[str, Any]:
        """A new `password` (which ends the person's sessions), or another `role`."""
        return self._ask("PATCH", f"/v1/users/{_part(name)}", changes, timeout=SOON)

    def remove_user(self, name: str) -> None:
        """Let a person sign in no more; what they said stays."""
        self._ask("DELETE", f"/v1/users/{_part(name)}", timeout=SOON)

    def thumb(
        self, response_id: str, rating: int, reasons: Sequence[str] = (), comment: str = ""
    ) -> dict[str, Any]:  # fmt: skip
        """A thumb up (1) or down (-1): {"version", "stored", "judgement": its id or None}."""
        body = {"response_id": response_id, "rating": rating, "reasons": [*reasons], "comment": comment}
        return self._ask("POST", f"{FEEDBACK}/ratings", body, timeout=SOON)

    def judge(self, kind: str, **said: Any) -> dict[str, Any]:
        """Any judgement with the fields of its kind in data/judgements.py; gives it with its `id`."""
        return self._ask("POST", f"{FEEDBACK}/judgements", {"kind": kind, **said}, timeout=SOON)

    def judgements(self, **wanted: Any) -> list[dict[str, Any]]:
        """One's own, newest first; an admin's key sees everybody's. `wanted`: the filters of the route."""
        return list(self._ask("GET", f"{FEEDBACK}/judgements{_query(wanted)}", timeout=SOON)["data"])

    def take_back(self, judgement_id: str) -> dict[str, Any]:
        """From now on the judgement counts for nothing; a second time changes nothing."""
        return self._ask("DELETE", f"{FEEDBACK}/judgements/{_part(judgement_id)}", timeout=SOON)

    def response(self, response_id: str) -> dict[str, Any]:
        """An answer as the store keeps it."""
        return self._ask("GET", f"{FEEDBACK}/responses/{_part(response_id)}", timeout=SOON)

    def add_queue(self, name: str, arms: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
        """A queue for raters: `arms` of {"model", "temperature"?, "max_tokens"?}; `prompts`, `dataset` or `traffic`."""
        body = {"name": name, "arms": [dict(arm) for arm in arms], **more}
        return self._ask("POST", f"{FEEDBACK}/queues", body, timeout=SOON)

    def queues(self) -> list[dict[str, Any]]:
        """All queues, with what is done and what is open."""
        return list(self._ask("GET", f"{FEEDBACK}/queues", timeout=SOON)["data"])

    def queue(self, name: str) -> dict[str, Any]:
        """One queue, with what each rater has done."""
        return self._ask("GET", f"{FEEDBACK}/queues/{_part(name)}", timeout=SOON)

    def remove_queue(self, name: str) -> None:
        """Remove a queue; the judgements stay."""
        self._ask("DELETE", f"{FEEDBACK}/queues/{_part(name)}", timeout=SOON)

    def next_turn(self, queue: str) -> dict[str, Any]:
        """{"turn": the rater's open turn or a new one, or None, "progress": {"done", "of", "seconds_left"}}."""
        return self._ask("POST", f"{FEEDBACK}/queues/{_part(queue)}/next", {}, timeout=SOON)

    def turn_answers(self, turn_id: str) -> Generator[dict[str, Any], None, None]:
        """The answers as they are written: {"position", "delta"}, {"position", "response_id"} at an answer's end,
        {"position", "error"} instead; at last {"turn"}. Those that are there come whole."""
        url = f"{self.url}{_turn(turn_id, 'answers')}"
        try:
            with httpx.stream("POST", url, json={}, headers=self.headers, timeout=TIMEOUT, trust_env=False) as reply:
                if reply.status_code != 200:
                    raise GatewayError(message_of(reply.read(), reply.status_code), reply.status_code)
                for line in reply.iter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        yield json.loads(line.removeprefix("data: "))
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def judge_turn(self, turn_id: str, **said: Any) -> dict[str, Any]:
        """`ranks` by the position shown (0 best, equal ones tie) or `verdict`, and `all_bad`, `reasons`, `comment`,
        `seconds`; gives {"judgement": its id, "progress"}."""
        return self._ask("POST", _turn(turn_id, "judgement"), said, timeout=SOON)

    def skip_turn(self, turn_id: str, reason: str = "") -> dict[str, Any]:
        """Leave a turn out: {"progress"}."""
        return self._ask("POST", _turn(turn_id, "skip"), {"reason": reason}, timeout=SOON)

    def undo_turn(self, turn_id: str) -> dict[str, Any]:
        """Take the turn's judgement back, or its skip, and open it again: {"turn", "progress"}."""
        return self._ask("POST", _turn(turn_id, "undo"), {}, timeout=SOON)


def _part(name: str) -> str:
    return quote(name, safe="")


def _turn(turn_id: str, what: str) -> str:
    return f"{FEEDBACK}/turns/{_part(turn_id)}/{what}"


def _query(wanted: Mapping[str, Any]) -> str:
    given = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in wanted.items()
        if value is not None
    }
    return f"?{urlencode(given)}" if given else ""
