"""Streams pass through as the engine's bytes, in whatever pieces they come, and are read for our books at the end."""

import json
from typing import Any

import pytest

from serve.stream import DONE, StreamReader, renamed, wants_usage, with_usage

MARK = "vllm-1-abc"


def chunk(**more: Any) -> bytes:
    content = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "engine-name"} | more
    return b"data: " + json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def piece(text: str, index: int = 0, **more: Any) -> bytes:
    return chunk(choices=[{"index": index, "delta": {"content": text}, "logprobs": None, "finish_reason": None} | more])


def end(index: int = 0, **more: Any) -> bytes:
    choice = {"index": index, "delta": {"content": ""}, "logprobs": None, "finish_reason": "stop", "stop_reason": None}
    return chunk(choices=[choice], **more)


USAGE = chunk(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 3}, system_fingerprint=MARK)
ANSWER = [piece("Grüße "), piece('say "model":"engine-name" and [DONE]'), end()]


def read(blocks: list[bytes], usage: bool = False, asked: str = "engine-name") -> tuple[bytes, StreamReader]:
    reader = StreamReader("engine-name", asked, usage)
    return b"".join(map(reader.feed, blocks)), reader


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
def test_who_asks_for_counts_under_the_engines_name_gets_its_bytes(size: int) -> None:
    whole = b"".join([*ANSWER, USAGE, DONE])
    given, reader = read([whole[i : i + size] for i in range(0, len(whole), size)], usage=True)
    assert given == whole
    assert (reader.finished, reader.failed, reader.tokens) == (True, False, (5, 3))
    assert reader.text == 'Grüße say "model":"engine-name" and [DONE]'


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
def test_who_does_not_gets_the_bytes_that_the_engine_sends_to_those_who_do_not(size: int) -> None:
    whole = b"".join([*ANSWER, USAGE, DONE])
    given, reader = read([whole[i : i + size] for i in range(0, len(whole), size)])
    assert given == b"".join([*ANSWER[:2], end(system_fingerprint=MARK), DONE])
    assert reader.tokens == (5, 3), "counted all the same"


def test_only_the_name_is_another() -> None:
    given, _ = read([*ANSWER, USAGE, DONE], usage=True, asked="reed")
    bare = b"".join([*ANSWER, USAGE, DONE])
    assert given == bare.replace(b',"model":"engine-name"', b',"model":"reed"')
    assert b'say \\"model\\":\\"engine-name\\"' in given, "not in what was said"
    assert renamed(b'{"model":"a"}', "a", 'q"ü') == '{"model":"q\\"ü"}'.encode()


def test_of_several_choices_each_end_bears_the_fingerprint_and_the_first_is_read() -> None:
    blocks = [piece("a"), piece("b", 1), end(), piece("c", 1), end(1), USAGE, DONE]
    given, reader = read(blocks)
    signed = [end(system_fingerprint=MARK), end(1, system_fingerprint=MARK)]
    assert given == b"".join([piece("a"), piece("b", 1), piece("c", 1), *signed, DONE])
    assert reader.text == "a"


def test_a_stream_without_counts_or_fingerprint_loses_nothing() -> None:
    given, reader = read([*ANSWER, DONE])
    assert given == b"".join([*ANSWER, DONE])
    assert reader.tokens == (0, 3), "one an event"


def test_a_stream_that_breaks_off_is_not_finished_and_an_error_is_noticed() -> None:
    _, broken = read(ANSWER[:1])
    assert (broken.finished, broken.tokens) == (False, (0, 1))
    error = b'data: {"error": {"message": "no"}}\n\n'.replace(b'": {', b'":{', 1)
    given, failed = read([error, DONE])
    assert (given, failed.failed, failed.text) == (error + DONE, True, "")


def test_a_completions_text_is_read_too_and_a_tool_call_has_none() -> None:
    _, reader = read([chunk(choices=[{"index": 0, "text": "on"}]), chunk(choices=[{"index": 0, "text": "ce"}]), DONE])
    assert reader.text == "once"
    call = {"index": 0, "id": "t", "function": {"name": "f", "arguments": "{}"}}
    _, reader = read([chunk(choices=[{"index": 0, "delta": {"tool_calls": [call]}}]), DONE])
    assert reader.text == ""


def test_what_is_added_to_the_last_event_sees_the_whole_text() -> None:
    reader = StreamReader("engine-name", "reed", False, lambda text: {"of": text})
    given = b"".join(map(reader.feed, [*ANSWER, USAGE, DONE]))
    events = [json.loads(e[6:]) for e in given.split(b"\n\n") if e.startswith(b"data: {")]
    assert [e.get("brogue") for e in events] == [None, None, {"of": reader.text}]
    assert (events[-1]["system_fingerprint"], events[-1]["model"]) == (MARK, "reed")


def test_a_stream_asks_for_counts_and_nothing_else_that_the_client_did_not_want() -> None:
    wished = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    assert with_usage(wished) is wished
    asked = with_usage({"stream": True, "stream_options": {"continuous_usage_stats": True}})
    assert asked["stream_options"] == {"include_usage": True}, "alone the other one means nothing to vLLM"
    assert with_usage({"stream_options": 3, "stream": True})["stream_options"] == 3, "vLLM says what is wrong with it"
    assert (wants_usage(wished), wants_usage({})) == (True, False)
