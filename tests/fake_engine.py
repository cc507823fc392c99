"""A version's own engine for tests, as a process: PORT NAME WEIGHTS [--after FILE] [--pause SECONDS].

It is ready once FILE is there, and pauses before each answer. It speaks as much of vLLM's HTTP as the gateway needs.
Its answers are what stands in the weights' file, word for word.
"""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

port, name, weights, *options = sys.argv[1:]
given = dict(zip(options[::2], options[1::2], strict=True))
word = (Path(weights) / "adapter_model.safetensors").read_text()
begun = Path(given["--after"]) if "--after" in given else None


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))  # as vLLM writes it


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send(503 if begun and not begun.exists() else 200, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {os.environ['VLLM_API_KEY']}":
            return self._send(401, {"error": {"message": "Unauthorized"}})
        if body["model"] != name:
            return self._send(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        time.sleep(float(given.get("--pause", 0)) if body.get("max_tokens") != 4 else 0)
        if body.get("stream"):
            event = {"id": "x", "model": name, "choices": [{"index": 0, "delta": {"content": word}}]}
            usage = {"id": "x", "model": name, "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}
            lines = [f"data: {compact(one)}\n\n" for one in (event, usage)]
            return self._send(200, "".join([*lines, "data: [DONE]\n\n"]), "text/event-stream")
        choice = {"index": 0, "message": {"role": "assistant", "content": word}, "finish_reason": "stop"}
        return self._send(200, {"id": "x", "model": name, "choices": [choice], "usage": {"prompt_tokens": 7}})

    def _send(self, status: int, content: object, kind: str = "application/json") -> None:
        data = (content if isinstance(content, str) else compact(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
