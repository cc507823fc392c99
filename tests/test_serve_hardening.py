"""What a client may not do to the gateway: sizes, depths, slowness, keys in URLs, other web sites; what is not told."""

import asyncio
import json
import logging
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from data.home import Home
from data.log_secrets import NoSecrets
from data.settings import EngineSettings, GatewaySettings
from serve.bodies import Bodies, is_too_deep
from serve.engine import command_line
from serve.engine_door import EngineDoor
from serve.hardening import SECRETS, Hardening
from serve.hardware import EnginePlan
from serve.local_names import LocalNames
from serve.openai_errors import ApiError, without_paths
from serve.serving import config_of, serve
from tests.conftest import free_port
from tests.fakes import ADMIN_KEY
from tests.key_gateway import CHAT, KeyGateway, error_of, key_gateway

SMALL = GatewaySettings(port=8000, max_body_mib=0.01, slow_client_s=0.4, cors_origins=("https://chat.shop.org",))


@pytest.fixture
def setup(home: Home) -> Iterator[KeyGateway]:
    with key_gateway(home, settings=SMALL) as setup:
        yield setup


@contextmanager
def listening(app: Any, settings: GatewaySettings) -> Iterator[int]:
    """The app behind our own connections, on a port of its own."""
    port = free_port()
    server = uvicorn.Server(config_of(app, settings, "127.0.0.1", port, is_outer=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield port
    server.should_exit = True
    thread.join(10)


async def echo(request: Request) -> JSONResponse:
    return JSONResponse({"size": len(await request.body())})


ECHO = Starlette(routes=[Route("/", echo, methods=["GET", "POST"])])


def test_every_answer_has_a_request_id_and_a_sane_one_is_kept(setup: KeyGateway) -> None:
    given = setup.ask(None, "GET", "/health", **{"x-request-id": "shop-7:a.b"})
    assert given.headers["x-request-id"] == "shop-7:a.b"
    for wrong in ("", "a b", "x" * 200, "<script>", "../../etc"):
        made = setup.ask(None, "GET", "/health", **{"x-request-id": wrong}).headers["x-request-id"]
        assert made.startswith("req-") and len(made) == 36
    for path in ("/nowhere", "/v1/models/none", "/metrics"):
        assert setup.ask(None, "GET", path).headers["x-request-id"].startswith("req-")


def test_a_bug_answers_with_the_id_to_quote_and_nothing_else(
    setup: KeyGateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("/home/somebody/secret.txt")

    monkeypatch.setattr(setup.pool.live, "resolve", broken)
    reply = setup.chat(None, "reed-voice@1")
    assert reply.status_code == 500 and reply.headers["x-request-id"] in error_of(reply)[2]
    assert "secret" not in reply.text and "Traceback" not in reply.text and "RuntimeError" not in reply.text
    assert reply.headers["x-request-id"] in caplog.text


@pytest.mark.parametrize("field", sorted(SECRETS))
def test_a_key_in_the_url_is_refused(setup: KeyGateway, field: str) -> None:
    for name in (field, field.upper()):
        code = error_of(setup.ask("admin", "GET", f"/v1/models?{name}=x"))
        assert code[:2] == (400, "key_in_url") and "Authorization: Bearer" in code[2]
    assert error_of(setup.ask("admin", "GET", "/v1/models?q=brg-abcdef"))[:2] == (400, "key_in_url")
    assert setup.ask("admin", "GET", "/v1/models?limit=3").status_code == 200
    assert error_of(setup.ask("admin", "GET", f"/v1/models?{'&'.join(['a=b'] * 300)}"))[0] == 400


def test_a_body_has_a_limit_whether_its_length_is_told_or_not(setup: KeyGateway) -> None:
    large = {"model": "base", "messages": [{"role": "user", "content": "x" * 20_000}]}
    assert error_of(setup.ask(None, "POST", CHAT, large))[:2] == (413, "request_too_large")

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    assert error_of(setup.client.post(CHAT, content=pieces()))[:2] == (413, "request_too_large")
    assert setup.engine.bodies == []


def test_who_has_no_credential_brings_little(home: Home) -> None:
    with key_gateway(home) as setup:
        setup.key("shop")
        sign_in = {"name": "ann", "password": "x" * 100_000}
        assert error_of(setup.ask(None, "POST", "/v1/sign-in", sign_in))[:2] == (413, "request_too_large")
        huge = {"model": "base", "messages": [{"role": "user", "content": "x" * 11 * 2**20}]}
        assert error_of(setup.ask(None, "POST", CHAT, huge))[:2] == (401, "invalid_api_key"), "before it is read"


@pytest.mark.parametrize(
    ("body", "deep"),
    [
        (b"[" * 64 + b"]" * 64, False),
        (b"[" * 65 + b"]" * 65, True),
        (b'{"a":[' * 32 + b"]}" * 32, False),
        (b'{"a":[' * 33 + b"]}" * 33, True),
        (b"[" * 100_000, True),
        (b"[]" * 1000, False),
        (b'["' + b"[{" * 1000 + b'"]', False),
        (b'["\\"' + b"[{" * 1000 + b'\\\\"]', False),
        (b'"' + b'\\"' * 100_000 + b"[" * 100, False),
        (b"[" * 600_000 + b"]" * 600_000, True),
    ],
)
def test_json_nests_as_deep_as_it_may_and_no_deeper(body: bytes, deep: bool) -> None:
    assert is_too_deep(body) is deep


def test_json_that_nests_too_deep_or_is_none_gets_one_line(setup: KeyGateway) -> None:
    for body in (b"[" * 3000, b'{"a":' * 500 + b"1" + b"}" * 500, b"\xff\xfe{", b"{'a': 1}", b"NaN", b"", b"[[1]"):
        reply = setup.client.post(CHAT, content=body)
        assert error_of(reply)[0] == 400, body[:20]


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:8000", None, 200), ("127.0.0.1:8000", None, 200), ("[::1]:8000", None, 200),
        ("brogue.localhost", None, 200), ("localhost:8000", "http://localhost:5173", 200),
        ("127.0.0.1", "https://chat.shop.org", 200), ("evil.org:8000", None, 403), ("", None, 403),
        ("evil.org:8000", "http://evil.org:8000", 403), ("127.0.0.1:8000", "https://evil.org", 403),
        ("127.0.0.1:8000", "null", 403), ("127.0.0.1.evil.org", None, 403), ("localhost@evil.org", None, 403),
    ],
)  # fmt: skip
def test_a_web_page_cannot_use_the_gateway_of_this_machine(host: str, origin: str | None, status: int) -> None:
    client = TestClient(LocalNames(ECHO, ["https://chat.shop.org"]))
    reply = client.post("/", content=b"x", headers={"host": host} | ({"origin": origin} if origin else {}))
    assert reply.status_code == status
    if status == 403:
        assert error_of(reply)[1] in ("wrong_host", "wrong_origin")


ASKED = GatewaySettings(port=8000, max_prompt_chars=20, max_output_tokens=50, max_choices=2)


def test_one_request_asks_for_no_more_than_the_settings_say(home: Home) -> None:
    with key_gateway(home, settings=ASKED) as setup:
        long = [{"role": "user", "content": [{"type": "text", "text": "a" * 12}, {"type": "text", "text": "b" * 12}]}]
        for more, name in (
            ({"max_tokens": 51}, "max_tokens"), ({"max_completion_tokens": 10**9}, "max_completion_tokens"),
            ({"n": 3}, "n"), ({"messages": long}, "messages"),
        ):  # fmt: skip
            reply = setup.chat(None, **more)
            assert error_of(reply)[:2] == (400, "too_much_asked") and reply.json()["error"]["param"] == name
        assert setup.engine.bodies == []
        for more, sent in (({}, 50), ({"max_tokens": 7}, 7), ({"n": 2}, 50)):
            assert setup.chat(None, **more).status_code == 200
            assert setup.engine.bodies[-1]["max_tokens"] == sent
        (home.assistants / "reed.yaml").write_text("name: reed\nsampling: {max_tokens: 400}\n")
        assert setup.chat(None, "reed").status_code == 200
        assert setup.engine.bodies[-1]["max_tokens"] == 50, "an assistant's own wish is cut"


def test_other_web_sites_may_not_call_the_gateway_unless_they_are_named(setup: KeyGateway, tmp_path: Path) -> None:
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    named = setup.client.options(CHAT, headers={"origin": "https://chat.shop.org", **asks})
    assert named.status_code == 200
    assert named.headers["access-control-allow-origin"] == "https://chat.shop.org"
    assert "access-control-allow-credentials" not in named.headers
    other = setup.client.options(CHAT, headers={"origin": "https://evil.org", **asks})
    assert other.status_code == 400 and "access-control-allow-origin" not in other.headers
    with key_gateway(Home(tmp_path / "other")) as closed:
        reply = closed.client.get("/v1/models", headers={"origin": "https://chat.shop.org"})
        assert not any(name.startswith("access-control") for name in reply.headers)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("/home/ann/.brogue/assistants/reed.yaml: broken", "…/reed.yaml: broken"),
        ("cannot read '/etc/ssl/private/a.key'", "cannot read '…/a.key'"),
        ("POST /v1/sign-in, then ask /v1/chat/completions", "POST /v1/sign-in, then ask /v1/chat/completions"),
        ("see https://host.org/a/b/c and 1/2/3", "see https://host.org/a/b/c and 1/2/3"),
        ("in (/srv/x/y.db)", "in (…/y.db)"),
        ("a and/or b", "a and/or b"),
    ],
)
def test_no_answer_tells_where_files_lie(message: str, told: str) -> None:
    assert without_paths(message) == ApiError(400, message).message == told


def test_a_broken_file_is_told_without_its_folder(setup: KeyGateway) -> None:
    (setup.home.assistants / "reed.yaml").write_text("name: reed\nnonsense: 1\n")
    reply = setup.chat(None, "reed")
    assert reply.status_code == 503 and "nonsense" in reply.text
    assert str(setup.home.root) not in reply.text and "…/reed.yaml" in reply.text


def test_logs_hold_no_secrets() -> None:
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    logger, handler = logging.getLogger("test.secrets"), Kept()
    handler.setFormatter(logging.Formatter("%(request_id)s %(message)s"))
    handler.addFilter(NoSecrets([ADMIN_KEY], lambda: "req-1"))
    logger.addHandler(handler)
    key = "brg-" + "aB3_-" * 8
    logger.error("asked with %s", key)
    logger.error("Authorization: Bearer %s and %s", "eyJhbGciOi.x", ADMIN_KEY)
    logger.error("GET /v1/models?api_key=topsecret&limit=3 {'password': 'correct horse'}")
    try:
        raise ValueError(f"no {key}")
    except ValueError:
        logger.exception("it broke")
    logger.removeHandler(handler)
    text = "\n".join(lines)
    for secret in (key, "eyJhbGciOi", ADMIN_KEY, "topsecret", "correct"):
        assert secret not in text, text
    assert text.startswith("req-1 asked with") and "ValueError" in text and "limit=3" in text


def test_nobody_fetches_what_a_message_names(setup: KeyGateway) -> None:
    """No address in a message, of a file or of a document makes the gateway or the engine ask for it."""
    asked: list[bytes] = []
    trap = socket.socket()
    trap.bind(("127.0.0.1", 0))
    trap.listen()
    trap.settimeout(0.3)
    url = f"http://127.0.0.1:{trap.getsockname()[1]}/latest/meta-data"
    for kind, name in (("image_url", "image_url"), ("input_audio", "audio_url"), ("video_url", "video_url")):
        part = {"type": kind, name: {"url": url}}
        body = {"model": "reed", "messages": [{"role": "user", "content": [{"type": "text", "text": url}, part]}]}
        assert setup.ask(None, "POST", CHAT, body).status_code < 500
    setup.ask("admin", "POST", "/v1/feedback/queues", {"name": url, "dataset": url, "arms": []})
    setup.ask("admin", "GET", f"/v1/knowledge/{url}")
    try:
        connection, _ = trap.accept()
        asked.append(connection.recv(100))
    except TimeoutError:
        pass
    trap.close()
    assert asked == []


def test_the_engine_fetches_from_nowhere_but_named_hosts_and_answers_nobody_without_its_key() -> None:
    plan = EnginePlan("gpu", 4096, None, None, None, None)
    words = command_line("/model", "base", 1, EngineSettings(), plan)
    assert words[words.index("--allowed-media-domains") + 1] == "nowhere.invalid"
    named = EngineSettings(media_domains=("pictures.shop.org",))
    words = command_line("/model", "base", 1, named, plan)
    assert words[words.index("--allowed-media-domains") + 1] == "pictures.shop.org"
    assert words[words.index("--middleware") + 1] == f"{EngineDoor.__module__}.{EngineDoor.__qualname__}"


def test_every_path_of_the_engine_but_health_wants_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "its key")
    routes = [Route(path, echo, methods=["GET", "POST"]) for path in ("/health", "/invocations", "/v1/models")]
    client = TestClient(EngineDoor(Starlette(routes=routes)))
    assert client.get("/health").status_code == 200
    for path in ("/invocations", "/v1/models", "/metrics", "/tokenize", "/health/", "/"):
        for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "its key"}):
            assert client.post(path, headers=headers).status_code == 401, path
    assert client.post("/invocations", headers={"authorization": "Bearer its key"}).status_code == 200


def sent(port: int, *pieces: bytes, pause_s: float = 0) -> bytes:
    """What comes back to raw bytes, until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except OSError:
                break
            time.sleep(pause_s)
        found = b""
        try:
            while got := connection.recv(65536):
                found += got
        except ConnectionResetError:
            pass
        return found


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    settings = GatewaySettings(port=8000, slow_client_s=0.5, max_connections=20)
    with listening(Hardening(Bodies(ECHO, settings, frozenset())), settings) as port:
        yield port


LINE = b"GET / HTTP/1.1\r\nHost: here\r\n"


def test_a_plain_request_passes_and_the_connection_may_be_used_again(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(3):
            assert client.post("/", content=b"12345").json() == {"size": 5}
        assert "server" not in client.get("/").headers


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ((LINE, b"X-Long: " + b"a" * 100_000 + b"\r\n\r\n"), 431),
        ((LINE, *(b"X-%d: a\r\n" % n for n in range(500)), b"\r\n"), 431),
        ((b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: here\r\n\r\n",), 431),
        ((LINE + b"X-Never-Ends: ", *([b"a" * 10_000] * 20)), 431),
        ((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",), 400),
        ((b"GET / HTTP/9.9\r\n\r\n",), 400),
        ((b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",), 400),
        ((b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",), 400),
        ((LINE + b"Bad Header\r\n\r\n",), 400),
    ],
)
def test_a_head_that_is_too_large_or_none_is_refused_in_openais_shape(
    port: int, pieces: tuple[bytes, ...], status: int
) -> None:
    found = sent(port, *pieces)
    if found:  # the other side may have closed while we were sending
        head, _, body = found.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status), found[:200]
        assert json.loads(body)["error"]["code"]
    assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200


def test_who_is_slow_is_cut_off(port: int) -> None:
    began = time.monotonic()
    assert sent(port) == b"", "says nothing"
    assert sent(port, LINE) == b"", "does not end its head"
    assert sent(port, b"\r\n") == b""
    slow_body = sent(port, b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\n12")
    assert slow_body.startswith(b"HTTP/1.1 408 ") and b"request_timeout" in slow_body
    drop = sent(port, b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 99\r\n\r\n", *[b"1"] * 9, pause_s=0.1)
    assert drop.startswith(b"HTTP/1.1 408 "), "a byte now and then does not help"
    print(f"five slow clients took {time.monotonic() - began:.1f} s")
    assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200


def test_who_does_not_take_its_answer_is_cut_off() -> None:
    async def endless() -> Any:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(
                0
            )  # else the loop never learns that the client has gone, and runs on behind all other tests

    async def stream(_: Request) -> StreamingResponse:
        return StreamingResponse(endless())

    settings = GatewaySettings(port=8000, slow_client_s=0.5)
    with (
        listening(Starlette(routes=[Route("/", stream)]), settings) as port,
        socket.create_connection(("127.0.0.1", port), 10) as connection,
    ):
        connection.sendall(LINE + b"\r\n")
        time.sleep(2)
        deadline = time.monotonic() + 20
        with suppress(ConnectionResetError):
            while connection.recv(2**20):
                assert time.monotonic() < deadline, "it is still being written"


def test_there_are_so_many_connections_and_no_more(port: int) -> None:
    held = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(25)]
    refused = 0
    for connection in held:
        connection.settimeout(0.2)
        try:
            refused += connection.recv(100).startswith(b"HTTP/1.1 503 ")
        except TimeoutError:
            pass
    for connection in held:
        connection.close()
    assert refused >= 4
    time.sleep(0.2)
    assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A certificate for another name than this machine's, and its key."""
    paths = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=chat.shop.org",
         "-addext", "subjectAltName=DNS:chat.shop.org", "-out", paths[0], "-keyout", paths[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return paths


def test_with_a_certificate_it_encrypts_and_this_machines_own_need_none(certificate: tuple[str, str]) -> None:
    outer, inner = free_port(), free_port()
    settings = GatewaySettings(port=outer, tls_certificate=certificate[0], tls_key=certificate[1])
    thread = threading.Thread(target=lambda: serve_in_thread(settings, inner), daemon=True)
    thread.start()
    trusting = ssl.create_default_context(cafile=certificate[0])
    trusting.check_hostname = False
    deadline = time.monotonic() + 20
    while True:
        try:
            assert httpx.get(f"https://127.0.0.1:{outer}/", verify=trusting).status_code == 200
            assert httpx.get(f"http://127.0.0.1:{inner}/").status_code == 200
            break
        except httpx.HTTPError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{outer}/")


def serve_in_thread(settings: GatewaySettings, inner: int) -> None:
    """As the supervisor does; without signals, for it is not the main thread."""
    serve(ECHO, settings, inner)


def test_a_certificate_without_its_key_is_refused_in_the_settings() -> None:
    with pytest.raises(ValueError, match="tls_certificate and tls_key go together"):
        GatewaySettings(port=1, tls_certificate="a.pem")
