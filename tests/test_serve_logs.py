"""The log of supervisor and gateway: whose request a line is about, and that no secret gets into it."""

import contextvars
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from data.log_secrets import LEFT_OUT, NoSecrets
from serve.logs import TEXT, TRACE, JsonFormatter, set_up_logging
from serve.request_ids import begin_request, request_id


def record(message: str, *values: Any, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("brogue.test", logging.WARNING, __file__, 1, message, values, None)
    made.__dict__.update(extra)
    return made


def written(made: logging.LogRecord, json_lines: bool, *known: str) -> str:
    """The line that a handler writes."""
    secrets = NoSecrets(known, request_id)
    handler = logging.StreamHandler(io.StringIO())
    handler.addFilter(secrets)
    handler.setFormatter(JsonFormatter(secrets) if json_lines else logging.Formatter(TEXT))
    handler.handle(made)
    return str(handler.stream.getvalue()).rstrip("\n")


@pytest.fixture
def in_request() -> Iterator[None]:
    """As if a request were being answered."""
    before, trace = contextvars.copy_context(), TRACE.set("ab" * 16)
    begin_request("req-7")
    yield
    TRACE.reset(trace)
    for variable, value in before.items():
        variable.set(value)


def test_a_json_line_holds_time_level_logger_message_and_what_extra_gave() -> None:
    line = json.loads(written(record("%s is slow", "reed", ms=3.5), True))
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "warning", "logger": "brogue.test", "message": "reed is slow", "ms": 3.5}


@pytest.mark.usefixtures("in_request")
def test_a_line_written_during_a_request_names_it_and_its_trace() -> None:
    line = json.loads(written(record("slow"), True))
    assert (line["request_id"], line["trace_id"]) == ("req-7", "ab" * 16)
    assert written(record("slow"), False).endswith(" req-7 slow")


def test_an_error_has_its_traceback_in_one_json_line() -> None:
    try:
        raise ValueError("with Bearer abcdefghijkl in it")
    except ValueError as error:
        made = record("it broke")
        made.exc_info = (type(error), error, error.__traceback__)
    text = written(made, True)
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
    for text in (
        written(record(said), False, "0123456789-admin"),
        written(record("%s", said, note=said, inner=[said]), True, "0123456789-admin"),
    ):
        assert secret not in text
        assert LEFT_OUT in text


def test_what_is_no_secret_stays_as_it_was() -> None:
    said = "http://127.0.0.1:8000/v1 answered 200 in 3.5 ms; 12 tokens"
    assert written(record(said), False, "short").endswith(said)
    assert written(record("a short text"), False, "short").endswith("a short text"), "too short to be a secret"


def test_everything_in_the_process_logs_in_the_chosen_form(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, uvicorns = logging.getLogger().handlers[:], logging.getLogger("uvicorn.error")
    level = uvicorns.level
    for logger in (logging.getLogger("uvicorn"), uvicorns):  # as in a new process: other tests have served with it
        monkeypatch.setattr(logger, "handlers", [])
        monkeypatch.setattr(logger, "propagate", True)
    try:
        uvicorns.setLevel(logging.NOTSET)
        set_up_logging("json", ["a-long-secret"])
        logging.getLogger("uvicorn.error").warning("a-long-secret was sent")
        logging.getLogger("httpx").info("a request, which is not told")
    finally:
        logging.basicConfig(handlers=before, force=True)
        uvicorns.setLevel(level)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["logger"], line["message"]) for line in lines] == [("uvicorn.error", f"{LEFT_OUT} was sent")]
