"""Requests as bytes, and ways to spoil them: each spoiler gives what is sent, piece by piece, and how it ends."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tests.fakes import ADMIN_KEY

End = Literal["read", "half-close", "reset"]  # wait for the answer; say that no more comes; hang up without a word
QUESTION = [{"role": "user", "content": "Hi"}]


@dataclass(frozen=True)
class Sent:
    """What goes over one connection."""

    pieces: tuple[bytes, ...]
    end: End = "read"
    pause_s: float = 0  # between the pieces


def request(method: str, path: str, body: bytes = b"", *headers: str, length: str | None = "right") -> bytes:
    """A request that is right as it stands; `length` takes the place of Content-Length's value, none leaves it out."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    if body and not any(line.lower().startswith("content-type") for line in headers):
        lines.append("Content-Type: application/json")
    if length is not None and (body or method != "GET"):
        lines.append(f"Content-Length: {len(body) if length == 'right' else length}")
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


def ask(**more: Any) -> bytes:
    """The body of a chat."""
    return json.dumps({"model": "reed", "messages": QUESTION, **more}).encode()


def good(dice: random.Random) -> tuple[str, str, bytes]:
    """One of the requests that clients send."""
    return dice.choice(
        [
            ("GET", "/v1/models", b""),
            ("GET", "/health", b""),
            ("GET", "/v1/feedback/judgements?limit=5", b""),
            ("POST", "/v1/chat/completions", ask()),
            ("POST", "/v1/chat/completions", ask(stream=True, n=1, temperature=0.5)),
            ("POST", "/v1/embeddings", b'{"model": "all-minilm-l6-v2", "input": ["a b", "c"]}'),
            ("POST", "/v1/feedback/ratings", b'{"response_id": "resp-1", "rating": 1, "comment": "fine"}'),
            ("POST", "/v1/feedback/judgements", b'{"kind": "rating", "response": "resp-1", "thumb": "up"}'),
            ("POST", "/v1/sign-in", b'{"name": "ann"}'),
            ("PUT", "/v1/adapters/reed-voice/aliases/stable", b'{"version": 1}'),
        ]
    )


def plain(dice: random.Random, *headers: str) -> bytes:
    return request(*good(dice), *headers)


def flipped_bytes(dice: random.Random) -> Sent:
    raw = bytearray(plain(dice))
    for _ in range(dice.randint(1, 12)):
        at = dice.randrange(len(raw))
        raw[at : at + dice.choice((0, 1, 1, 4))] = dice.randbytes(dice.choice((0, 1, 1, 8)))
    return Sent((bytes(raw),), "half-close")


def bad_chunking(dice: random.Random) -> Sent:
    method, path, _ = good(dice)
    body = ask()
    size = b"%x" % len(body)
    chunks = dice.choice(
        [
            size + b"\r\n" + body + b"\r\n0\r\n\r\n",
            b"zz\r\n" + body, b"-5\r\n" + body, b"fffffffffffffffff\r\n" + body, b"0x10\r\n" + body, b"\r\n\r\n",
            size + b";" + b"e" * dice.choice((10, 70_000)) + b"\r\n" + body + b"\r\n0\r\n\r\n",
            size + body + b"0\r\n\r\n", size + b"\n" + body + b"\n0\n\n", size + b"\r\n" + body[:9],
            size + b"\r\n" + body + b"\r\n0\r\nTrailer: " + b"x" * 500 + b"\r\n\r\n",
            b"1\r\n{\r\n" * dice.randint(2, 400) + b"0\r\n\r\n",
        ]
    )  # fmt: skip
    coding = dice.choice(("chunked", "chunked, chunked", "gzip, chunked", "identity", "CHUNKED", "chunked\x0b"))
    return Sent((request(method, path, b"", f"Transfer-Encoding: {coding}", length=None), chunks), "half-close")


def huge_headers(dice: random.Random) -> Sent:
    many = [f"X-{n}: {'v' * dice.randint(0, 200)}" for n in range(dice.choice((50, 500, 2000)))]
    return Sent(
        (plain(dice, *dice.choice([many, ["X: " + "v" * dice.choice((9_000, 70_000, 300_000))], ["X" * 70_000]])),)
    )


def broken_text(dice: random.Random) -> Sent:
    junk = dice.choice((b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88", dice.randbytes(6)))
    method, path, body = good(dice)
    body = body.replace(dice.choice((b"Hi", b"reed", b"resp-1", b"a b", b"fine")), junk)
    where = dice.randrange(3)
    if where == 0:
        return Sent((request(method, path, body),))
    if where == 1:
        return Sent((request(method, path, body, "Authorization: Bearer " + junk.decode("latin-1")),), "half-close")
    return Sent((request(method, path + "/%FF%C3%28/" + junk.decode("latin-1"), body),), "half-close")


def half_open(dice: random.Random) -> Sent:
    raw = plain(dice)
    return Sent((raw[: dice.randrange(len(raw))],), dice.choice(("half-close", "reset", "reset")))


def wrong_length(dice: random.Random) -> Sent:
    method, path, body = good(dice)
    body = body or b"{}"
    right = len(body)
    lengths = (
        right - 1,
        right // 2,
        right + 1,
        right + 999,
        -1,
        0,
        f"+{right}",
        f"{right}, {right}",
        "9" * 30,
        "1e3",
        "",
    )
    length = str(dice.choice(lengths))
    more = dice.choice(([], [], ["Transfer-Encoding: chunked"], [f"Content-Length: {right + 3}"]))
    return Sent(
        (request(method, path, body, *more, length=length),), dice.choice(("half-close", "half-close", "reset"))
    )


def pipelined(dice: random.Random) -> Sent:
    several = [plain(dice) for _ in range(dice.randint(2, 12))]
    if dice.random() < 0.5:
        several.insert(dice.randrange(len(several)), flipped_bytes(dice).pieces[0])
    return Sent((b"".join(several),), dice.choice(("half-close", "half-close", "reset")))


def null_bytes(dice: random.Random) -> Sent:
    method, path, body = good(dice)
    where = dice.randrange(4)
    if where == 0:
        return Sent((request(method, path.replace("/v1", "/v1\0"), body),), "half-close")
    if where == 1:
        return Sent((request(method, path + "/%00", body),))
    if where == 2:
        return Sent((request(method, path, body, "X-Brogue-User: a\0b"),), "half-close")
    return Sent((request(method, path, body.replace(b"Hi", b"a\\u0000b").replace(b"resp-1", b"r\\u0000")),))


def long_urls(dice: random.Random) -> Sent:
    length = dice.choice((1_000, 8_000, 70_000, 200_000))
    path = dice.choice(("/v1/models/" + "m" * length, "/v1/exams?adapter=" + "a" * length, "/" + "../" * (length // 3),
                        "/v1/feedback/responses/" + "%41" * (length // 3), "/v1/adapters/" + "/" * length))  # fmt: skip
    return Sent((request("GET", path),))


def deep_json(dice: random.Random) -> Sent:
    depth = dice.choice((100, 900, 5_000, 100_000))
    deep = dice.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth))
    method, path, _ = dice.choice([one for one in (good(dice) for _ in range(50)) if one[2]])
    bodies = (deep, b'{"model": "reed", "messages": %s}' % deep, ask()[:-1] + b', "x": %s}' % deep,
              b'{"model": "all-minilm-l6-v2", "input": %s}' % deep,
              b'{"response_id": "r", "rating": 1, "comment": %s}' % deep)  # fmt: skip
    return Sent((request(method, path, dice.choice(bodies)),))


def giant_numbers(dice: random.Random) -> Sent:
    number = dice.choice((b"1e999", b"-1e999", b"NaN", b"Infinity", b"-Infinity", b"9" * 400, b"9" * 5_000, b"1e-999",
                          b"0." + b"1" * 9_000, b"1" + b"0" * 30, b"-9223372036854775809", b"0x10",
                          b"1_0"))  # fmt: skip
    path, body = dice.choice(
        [
            ("/v1/chat/completions", ask(temperature=0)[:-1] + b', "seed": %s}' % number),
            ("/v1/chat/completions", b'{"model": "reed", "messages": [{"role": "user", "content": %s}]}' % number),
            ("/v1/chat/completions", ask()[:-1] + b', "n": %s, "max_tokens": %s}' % (number, number)),
            ("/v1/chat/completions", ask()[:-1] + b', "user": %s, "metadata": {"topic": %s}}' % (number, number)),
            ("/v1/embeddings", b'{"model": "all-minilm-l6-v2", "input": "a", "dimensions": %s}' % number),
            ("/v1/feedback/ratings", b'{"response_id": "r", "rating": %s}' % number),
            ("/v1/feedback/judgements", b'{"kind": "rating", "response": "r", "seconds": %s}' % number),
        ]
    )
    return Sent((request("POST", path, body),))


def doubled_headers(dice: random.Random) -> Sent:
    line = dice.choice(("Host: other", "Content-Length: 3", "Authorization: Bearer x", "Content-Type: text/plain",
                        "Transfer-Encoding: chunked", "Connection: close, keep-alive, upgrade", "Host:",
                        "X-Brogue-User: %FF%00", f"Authorization: Bearer {ADMIN_KEY}", " folded: y", "no colon",
                        "X-Brogue-Exam: base", "Expect: 100-continue", "Cookie: " + "a=b; " * 900))  # fmt: skip
    return Sent((plain(dice, *[line] * dice.randint(1, 5)),), "half-close")


def strange_starts(dice: random.Random) -> Sent:
    method, path, body = good(dice)
    starts = (
        f"{method} {path} HTTP/9.9", f"{method}  {path} HTTP/1.1", f"{method} {path}", f"BREW {path} HTTP/1.1",
        f"{method} http://elsewhere{path} HTTP/1.1", f"{method} {path} HTTP/1.0", "CONNECT a:1 HTTP/1.1",
        "PRI * HTTP/2.0", f"{method} {path}?{'&' * 999} HTTP/1.1", f"{method} * HTTP/1.1", "\r\n\r\n",
    )  # fmt: skip
    start = dice.choice(starts)
    rest = plain(dice).partition(b"\r\n")[2]
    other = (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + dice.randbytes(40), dice.randbytes(dice.randint(1, 600)),
             request("GET", path, b"", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                     "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="))  # fmt: skip
    return Sent((dice.choice((start.encode() + b"\r\n" + rest,) * 3 + other),), "half-close")


def odd_bodies(dice: random.Random) -> Sent:
    user = {"role": "user"}
    bodies = (
        b"null", b"[]", b'""', b"3", b"{", b"\xef\xbb\xbf{}", b'{"model": "reed", "model": 3}', b"{}" * 500,
        ask(messages=[{}]), ask(messages=[{"role": 3}]), ask(messages=[user | {"content": [[]]}]),
        ask(messages=[user | {"content": {"text": 1}}]), ask(stream="yes"), ask(user=[1]), ask(metadata=[]),
        ask(metadata={"topic": {}}), ask(stream_options=[1], stream=True), ask(model="x" * 100_000),
        ask(model="../../etc/passwd"), ask(model="reed-voice@99999999999999"), ask(model="reed\r\nX: y"),
        ask(messages=QUESTION * 3000), b"a=b&c=d", bytes(70_000),
    )  # fmt: skip
    kinds = (
        "application/json", "text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded",
        "application/json; charset=utf-16", "", "application/xml",
    )  # fmt: skip
    body, kind = dice.choice(bodies), dice.choice(kinds)
    method, path, _ = dice.choice([one for one in (good(dice) for _ in range(50)) if one[2]])
    return Sent((request(method, path, body, f"Content-Type: {kind}"),))


def slow_bodies(dice: random.Random) -> Sent:
    raw = plain(dice)
    cuts = sorted(dice.sample(range(1, len(raw)), 5))
    pieces = tuple(raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True))
    return Sent(pieces[: dice.randint(3, 6)], dice.choice(("read", "reset", "half-close")), 0.02)


SPOILERS: tuple[Callable[[random.Random], Sent], ...] = (
    flipped_bytes, bad_chunking, huge_headers, broken_text, half_open, wrong_length, pipelined, null_bytes, long_urls,
    deep_json, giant_numbers, doubled_headers, strange_starts, odd_bodies, slow_bodies,
)  # fmt: skip
