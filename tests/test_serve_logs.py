"""The log of supervisor and gateway: whose request a line is about, and that no secret gets into it."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from serve.logs import HIDDEN, REQUEST, JsonFormatter, Redaction, TextFormatter, set_up_logging


def record(message: str, *values: Any, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("brogue.test", logging.WARNING, __file__, 1, message, values, None)
    made.__dict__.update(extra)
    return made


@pytest.fixture
def in_request() -> Iterator[None]:
    """As if a request were being answered."""
    token = REQUEST.set({"type": "http", "state": {"request_id": "req-7", "trace_id": "ab" * 16}})
    yield
    REQUEST.reset(token)


def test_a_json_line_holds_time_level_logger_message_and_what_extra_gave() -> None:
    line = json.loads(JsonFormatter(Redaction()).format(record("%s is slow", "reed", ms=3.5)))
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "warning", "logger": "brogue.test", "message": "reed is slow", "ms": 3.5}


@pytest.mark.usefixtures("in_request")
def test_a_line_written_during_a_request_names_it_and_its_trace() -> None:
    line = json.loads(JsonFormatter(Redaction()).format(record("slow")))
    assert (line["request_id"], line["trace_id"]) == ("req-7", "ab" * 16)
    assert TextFormatter(Redaction()).format(record("slow")).endswith("slow [req-7]")


def test_an_error_has_its_traceback_in_one_json_line() -> None:
    try:
        raise ValueError("with Bearer abcdefghijkl in it")
    except ValueError as error:
        made = record("it broke")
        made.exc_info = (type(error), error, error.__traceback__)
    text = JsonFormatter(Redaction()).format(made)
    assert "\n" not in text
    assert "ValueError" in json.loads(text)["error"]
    assert "abcdefghijkl" not in text


@pytest.mark.parametrize(
    ("said", "secret"),
    [
        ("headers {'authorization': 'Bearer abc.def-123'}", "abc.def-123"),
        ("opening postgresql://ann:hunter22@db/brogue", "hunter22"),
        ("api_key=xyzzy-plugh", "xyzzy-plugh"),
        ('{"password": "open sesame"}', "open"),
        ("the key brg-abcdEFGH1234 came", "abcdEFGH1234"),
        ("the key sk-proj-abcdEFGH1234 came", "abcdEFGH1234"),
        ("it is 0123456789-admin", "0123456789-admin"),
    ],
)
def test_secrets_are_hidden_in_messages_and_in_extra(said: str, secret: str) -> None:
    redaction = Redaction(("0123456789-admin",))
    for text in (
        TextFormatter(redaction).format(record(said)),
        JsonFormatter(redaction).format(record("%s", said, note=said, inner=[said])),
    ):
        assert secret not in text
        assert HIDDEN in text


def test_what_is_no_secret_stays_as_it_was() -> None:
    said = "http://127.0.0.1:8000/v1 answered 200 in 3.5 ms; 12 tokens; bearer of bad news: none"
    assert Redaction(("short",))("a short text") == "a short text", "too short to be a secret: it would hide words"
    assert Redaction()(said).startswith("http://127.0.0.1:8000/v1 answered 200 in 3.5 ms; 12 tokens")


def test_everything_in_the_process_logs_in_the_chosen_form(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:]
    try:
        set_up_logging("json", ("a-long-secret",))
        logging.getLogger("uvicorn.error").warning("a-long-secret was sent")
        logging.getLogger("httpx").info("a request, which is not told")
    finally:
        logging.basicConfig(handlers=before, force=True)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["logger"], line["message"]) for line in lines] == [("uvicorn.error", f"{HIDDEN} was sent")]
