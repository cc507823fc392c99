"""A small client of the gateway, for the page and for `brogue chat`: the same HTTP that everybody else has."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import httpx

from data.errors import BrogueError, one_line

TIMEOUT = httpx.Timeout(600, connect=5)  # seconds
MOVE_TIMEOUT = httpx.Timeout(3600, connect=5)  # a version may have to get an engine of its own first


class GatewayError(BrogueError):
    """The gateway is not there, or it answered with an error; the message is the gateway's own."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status  # HTTP's; none: no answer came


@dataclass(frozen=True)
class Source:
    """Where an answer comes from, as its headers say."""

    version: str = ""  # such as "reed-voice@2"; "base" for the base model
    response_id: str = ""


class Answer(NamedTuple):
    """One of the answers to a question."""

    text: str
    cut_off: bool  # it ended because it reached max_tokens


@dataclass
class Client:
    """Speaks to the gateway at `url` (no trailing slash)."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)

    def models(self) -> list[dict[str, Any]]:
        """The entries of /v1/models; assistants carry `kind` "assistant", `description` and `brand`."""
        return list(self._ask("GET", "/v1/models", timeout=10)["data"])

    def assistants(self) -> list[dict[str, Any]]:
        """Only the assistants among the models."""
        return [entry for entry in self.models() if entry.get("kind") == "assistant"]

    def stream_chat(
        self,
        model: str,
        messages: list[dict[str, str]],
        on_start: Callable[[Source], None] | None = None,
        on_checked: Callable[[dict[str, Any]], None] | None = None,
        **options: Any,
    ) -> Iterator[str]:
        """The pieces of the answer as they come. Raises `GatewayError` also in the middle of an answer.

        `on_start` is told who writes, before the first piece; `on_checked`, at the end, which passages of documents
        the answer had and what they say of it (the field `brogue`), if it is one from documents.
        """
        body = {"model": model, "messages": messages, "stream": True, **options}
        try:
            with httpx.stream(
                "POST",
                f"{self.url}/v1/chat/completions",
                json=body,
                headers=self.headers,
                timeout=TIMEOUT,
                trust_env=False,
            ) as reply:
                if reply.status_code != 200:
                    raise GatewayError(message_of(reply.read(), reply.status_code))
                if on_start is not None:
                    headers = reply.headers
                    on_start(Source(headers.get("x-brogue-version", ""), headers.get("x-brogue-response-id", "")))
                for line in reply.iter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        event = json.loads(line.removeprefix("data: "))
                        yield from _pieces(event)
                        if on_checked is not None and "brogue" in event:
                            on_checked(event["brogue"])
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def answers(self, model: str, messages: list[dict[str, str]], **options: Any) -> list[Answer]:
        """Whole answers; `n` of them, if that is among the options."""
        reply = self._ask("POST", "/v1/chat/completions", {"model": model, "messages": messages, **options})
        return [Answer(c["message"]["content"] or "", c["finish_reason"] == "length") for c in reply["choices"]]

    def rate(self, response_id: str, rating: int, reasons: Sequence[str] = ()) -> str:
        """Say what a person thought of an answer, 1 or -1, and why; gives the version that wrote it."""
        body = {"response_id": response_id, "rating": rating} | ({"reasons": [*reasons]} if reasons else {})
        return str(self._ask("POST", "/v1/feedback/ratings", body, timeout=10)["version"])

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, timeout: httpx.Timeout | float = TIMEOUT
    ) -> dict[str, Any]:
        """The answer to one request as JSON."""
        return dict(self._reply(method, path, body, timeout).json())

    def _reply(
        self, method: str, path: str, body: dict[str, Any] | None, timeout: httpx.Timeout | float
    ) -> httpx.Response:
        """The answer to one request. Raises `GatewayError` for any but a good one."""
        try:
            reply = httpx.request(
                method, f"{self.url}{path}", json=body, headers=self.headers, timeout=timeout, trust_env=False
            )
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if reply.status_code != 200:
            raise GatewayError(message_of(reply.content, reply.status_code), reply.status_code)
        return reply

    def _unreachable(self, error: httpx.HTTPError) -> GatewayError:
        return GatewayError(f"cannot reach the gateway at {self.url} ({type(error).__name__}); start it: brogue up")


class Admin(Client):
    """The part of the gateway that needs the admin key: adapters with versions and aliases; trainings; documents."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(url, {"Authorization": f"Bearer {key}"})

    def adapters(self) -> list[dict[str, Any]]:
        """All adapters with aliases, versions and the latest alias moves."""
        return list(self._ask("GET", "/v1/adapters", timeout=10)["data"])

    def adapter(self, name: str) -> dict[str, Any]:
        """One adapter."""
        return self._ask("GET", _path(name), timeout=10)

    def set_alias(
        self, adapter: str, alias: str, version: int, who: str, why: str, share: int | None = None,
        shadow: bool = False, force: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Move an alias once the version has proved to work; `share` (percent) and `shadow` only for a canary.

        `force`: although it failed its exam. Gives {"adapter", "before", "after", "seconds"}.
        """
        body: dict[str, Any] = {"version": version, "who": who, "why": why} | ({"force": True} if force else {})
        if alias == "canary":
            body |= {"shadow": shadow} | ({} if share is None else {"share": share})
        return self._ask("PUT", _path(adapter, "aliases", alias), body, MOVE_TIMEOUT)

    def remove_alias(self, adapter: str, alias: str, who: str = "", why: str = "") -> dict[str, Any]:
        """Take the alias `candidate` or `canary` away."""
        return self._ask("DELETE", f"{_path(adapter, 'aliases', alias)}?{urlencode({'who': who, 'why': why})}")

    def rollback(self, adapter: str, who: str, why: str) -> dict[str, Any]:
        """Make the version stable that was it before the present one; answers as `set_alias`."""
        return self._ask("POST", _path(adapter, "rollback"), {"who": who, "why": why}, MOVE_TIMEOUT)

    def retire(self, adapter: str, version: int) -> dict[str, Any]:
        """Take a version that no alias means out of use for good; gives the adapter."""
        return self._ask("DELETE", _path(adapter, "versions", str(version)))

    def runs(self) -> list[dict[str, Any]]:
        """The runs of training, the newest first."""
        return list(self._ask("GET", "/v1/runs", timeout=10)["data"])

    def run(self, id: str) -> dict[str, Any]:
        """One of them, with its curves as numbers."""
        return self._ask("GET", f"/v1/runs/{quote(id, safe='')}", timeout=10)

    def exams(self, adapter: str | None = None) -> list[dict[str, Any]]:
        """All exams, or an adapter's, the newest first: the verdict and each figure of the version."""
        asked = f"?{urlencode({'adapter': adapter})}" if adapter else ""
        return list(self._ask("GET", f"/v1/exams{asked}", timeout=30)["data"])

    def exam(self, id: str) -> dict[str, Any]:
        """One of them, whole."""
        return self._ask("GET", f"/v1/exams/{quote(id, safe='')}", timeout=30)

    def exam_report(self, id: str) -> str:
        """Its report, a page of HTML that needs nothing else."""
        return self._reply("GET", f"/v1/exams/{quote(id, safe='')}/report.html", None, 60).text

    def loop(self, adapter: str) -> dict[str, Any]:
        """The adapter's rounds of the loop, its versions with their exams, and what is going on now."""
        return self._ask("GET", _path(adapter, "loop"), timeout=30)

    def retrain(self, adapter: str, **wish: Any) -> dict[str, Any]:
        """Start a retrain (`recipe`, `auto`, `canary`), or go on with an unfinished one; answers as `loop`."""
        return self._ask("POST", _path(adapter, "retrain"), wish, timeout=30)

    def knowledges(self) -> list[dict[str, Any]]:
        """The assistants that have documents, with the numbers of documents and passages."""
        return list(self._ask("GET", "/v1/knowledge", timeout=30)["data"])

    def knowledge(self, name: str) -> dict[str, Any]:
        """One of them, with its documents in `files`."""
        return self._ask("GET", f"/v1/knowledge/{quote(name, safe='')}", timeout=30)

    def search_knowledge(self, name: str, question: str, limit: int = 5) -> dict[str, Any]:
        """The passages found for a question, with their scores, and whether the assistant would answer from them."""
        body = {"question": question, "limit": limit}
        return self._ask("POST", f"/v1/knowledge/{quote(name, safe='')}/search", body)


def _path(*parts: str) -> str:
    return "/".join(["/v1/adapters", *(quote(part, safe="") for part in parts)])


def _pieces(event: dict[str, Any]) -> Iterator[str]:
    if "error" in event:
        raise GatewayError(one_line(event["error"].get("message", event["error"])))
    for choice in event.get("choices", []):
        if text := choice.get("delta", {}).get("content"):
            yield text


def message_of(content: bytes, status: int) -> str:
    """What a refused request says: the error's message, or the status."""
    try:
        return one_line(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the gateway answered {status}: {one_line(content.decode(errors='replace'), 200)}"
