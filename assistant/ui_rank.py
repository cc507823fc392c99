"""The tab Rank: a rater's queue, the answers to one question side by side and blind, and what the rater says of them.

The board is one piece of HTML with its script (`ui_rank_script`). What a rater does comes as the event `act` and is
answered with a patch of the board's state; the answers grow by the event `write` in a component of their own; `correct`
opens the editor for an answer. The tab holds no state: turns and judgements are the gateway's, drafts the browser's.
"""

import logging
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from assistant.client import GatewayError
from assistant.client_feedback import FeedbackClient
from assistant.ui_correct import Corrector
from assistant.ui_people import People
from assistant.ui_rank_html import Growing, progress_shown, reasons_shown, turn_shown
from assistant.ui_rank_queue import QueueForm
from assistant.ui_rank_script import RELAY, SCRIPT
from assistant.ui_rank_style import CSS

MOST_ANSWERS = 6  # of a turn
STEP_S = 0.1  # seconds between two looks of the growing answers
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
BUG = "Something unexpected happened; the log has the details. Your order is kept; please try again."

Patch = dict[str, Any]  # what changes of the board's state; `seq` names the act that it answers


class RankTab:
    """The components of the tab and what they do; build it inside `gr.Tab`."""

    def __init__(self, people: People) -> None:
        self._people = people
        gr.HTML(
            f"<style>{CSS}</style><h1>Rank answers</h1><p>Read the answers and put them in order. Nobody tells you who "
            "wrote which, and two can be equally good.</p>",
            elem_classes="intro",
        )
        self._board = gr.HTML(
            html_template='<div class="rank-board"></div>', js_on_load=SCRIPT, apply_default_css=False, elem_id="rank"
        )  # fmt: skip
        self._answers = gr.HTML(html_template="<i></i>", js_on_load=RELAY, visible="hidden")
        self._corrector = Corrector(people, "rank")
        self._form = QueueForm(people)
        self._wire()

    @property
    def outputs(self) -> list[gr.Component]:
        """What `show` fills."""
        return [self._board, *self._form.outputs]

    def show(self, request: gr.Request) -> list[Any]:
        """Values for `outputs` when the tab comes up: the queues, and for admins the form to make one."""
        patch = self._queues(request)
        return [patch, *self._form.show(patch["admin"], request)]

    def _wire(self) -> None:
        writing = self._board.write(self._write, None, self._answers, trigger_mode="multiple", **QUIET)
        self._board.act(self._act, None, self._board, trigger_mode="multiple", cancels=[writing], **QUIET)
        corrector = self._corrector
        self._board.correct(self._correct, corrector.saved, corrector.outputs, **QUIET)
        corrector.saved.change(self._corrected, corrector.saved, [self._answers, *corrector.outputs], **QUIET)
        self._form.made.change(self._queues, None, self._board, **QUIET)

    def _client(self, request: gr.Request, rater: str = "") -> FeedbackClient:
        """Acts for who is signed in; where nobody signs in, under the name that the rater has typed."""
        client = self._people.client(request)
        return client.as_user(rater) if rater else client

    def _queues(self, request: gr.Request) -> Patch:
        """Who is here and what there is to rank."""
        patch: Patch = {"seq": time.time_ns(), "admin": False, "queues": [], "queue": None}
        try:
            client = self._client(request)
            me = client.me()
            patch |= {"ask_name": not me["sign_in"], "rater": me["name"], "reasons": reasons_shown(me["reasons"])}
            patch["admin"] = self._people.role(request) == "admin"
            queues = sorted(client.queues(), key=lambda one: not one["open"])  # those with something to do first
            patch["queues"] = [{"name": one["name"], "label": one["name"]} for one in queues]
        except GatewayError as error:
            patch["error"] = f"The queues cannot be shown right now: {error}"
        return patch

    def _act(self, event: gr.EventData, request: gr.Request) -> Patch:
        """Do what the rater asked for; whatever goes wrong, the board stays as it is and says why."""
        data = dict(event._data)
        patch: Patch = {"seq": data["seq"]}
        try:
            return patch | self._done(data, self._client(request, str(data["rater"] or "")))
        except GatewayError as error:
            refused = {"did": {"what": "undo", "turn": data["turn"]}} if data["act"] == "undo" and error.status else {}
            return patch | refused | {"error": str(error)}
        except Exception:  # the edge of the page: a bug must not leave a rater with a board that waits for ever
            logging.exception("the rank page's act '%s' failed", data["act"])
            return patch | {"error": BUG}

    def _done(self, data: dict[str, Any], client: FeedbackClient) -> Patch:
        act, turn, queue = data["act"], data["turn"], data["queue"]
        done: Patch = {"queue": queue}
        if act == "undo":
            found = client.undo_turn(turn)
            done |= {"said": "Taken back. Change what you like and submit again."}
        else:
            if act == "judge":
                client.judge_turn(turn, **{name: data[name] for name in SAID if name in data})
                done |= {"said": "Saved."}
            elif act == "skip":
                client.skip_turn(turn, data["reason"])
                done |= {"said": "Skipped."}
            found = client.next_turn(queue)
        if act != "open":
            done |= {"did": {"what": act, "turn": turn}}
        return done | {"turn": turn_shown(found["turn"])} | progress_shown(found["progress"])

    def _write(self, event: gr.EventData, request: gr.Request) -> Iterator[Patch]:
        """The turn's answers as they grow, all of them at each step."""
        data = dict(event._data)
        answers = [Growing() for _ in range(min(int(data["count"]), MOST_ANSWERS))]
        shown = 0.0
        for is_over in self._grow(answers, data["turn"], self._client(request, str(data["rater"] or ""))):
            if not is_over and time.monotonic() - shown < STEP_S:
                continue
            shown = time.monotonic()
            yield {"turn": data["turn"], "answers": [one.shown() for one in answers]}

    def _grow(self, answers: list[Growing], turn: str, client: FeedbackClient) -> Iterator[bool]:
        """Fill `answers` piece by piece; gives after each whether it was the last."""
        problem = "This answer did not come."
        try:
            for piece in client.turn_answers(turn):
                _add(answers, piece)
                yield False
        except GatewayError as error:
            problem = str(error)
        for one in answers:
            if one.response is None and one.problem is None:
                one.problem = problem
        yield True

    def _correct(self, saved: dict[str, Any], event: gr.EventData) -> list[Any]:
        data = dict(event._data)
        return self._corrector.open(str(data["response"]), str(data["text"]), saved)

    def _corrected(self, saved: dict[str, Any]) -> list[Any]:
        """The answer's button tells it from now on, and opens the editor again to take it back."""
        return [{"corrected": [*saved]}, *self._corrector.close()]


SAID = ("ranks", "verdict", "all_bad", "reasons", "comment", "seconds")


def _add(answers: list[Growing], piece: dict[str, Any]) -> None:
    """One event of the gateway's stream."""
    if "turn" in piece:
        for one in piece["turn"]["answers"]:
            if one["response_id"]:
                answers[one["position"]] = Growing(one["text"] or "", one["response_id"])
        return
    one = answers[piece["position"]]
    if "delta" in piece:
        one.text += piece["delta"]
    elif "response_id" in piece:
        one.response = piece["response_id"]
    elif "error" in piece:
        error = piece["error"]
        one.problem = str(error.get("message", error) if isinstance(error, dict) else error)
