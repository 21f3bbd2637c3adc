"""A gateway whose answers are a function of what it is asked, and which can be rude."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeGateway:
    """busy: how many completions are first refused with a 503. broken: how many
    connections are cut. fail_after: after so many answers, each is a 400."""

    def __init__(self, busy: int = 0, broken: int = 0, fail_after: int | None = None) -> None:
        self.lock = threading.Lock()
        self.busy, self.broken, self.fail_after = busy, broken, fail_after
        self.chats: list[dict] = []
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.reply(200, {"data": [{"id": "fake"}]} if self.path == "/v1/models" else {})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/apply-template":
                    return self.reply(200, {"prompt": "".join(f"<{m['role']}>{m['content']}" for m in body["messages"]) + "<assistant>"})
                if self.path == "/tokenize":
                    return self.reply(200, {"tokens": [3 + b % 128 for b in body["content"].encode()]})
                return self.chat(body)

            def chat(self, body: dict) -> None:
                with gateway.lock:
                    if gateway.broken > 0:
                        gateway.broken -= 1
                        self.close_connection = True
                        return self.connection.close()
                    if gateway.busy > 0:
                        gateway.busy -= 1
                        return self.reply(503, {"error": {"message": "busy"}}, {"Retry-After": "0"})
                    if gateway.fail_after is not None and len(gateway.chats) >= gateway.fail_after:
                        return self.reply(400, {"error": {"message": "enough"}})
                    gateway.chats.append(body)
                message = {"role": "assistant", "content": answer(body)}
                return self.reply(200, {"choices": [{"message": message, "finish_reason": "stop"}]})

            def reply(self, status: int, body: dict, headers: dict[str, str] | None = None) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FakeGateway":
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def answer(body: dict) -> str:
    """Depends on the question alone where it is greedy, on the seed too where it is sampled."""
    said = json.dumps([body["messages"], body["seed"] if body["temperature"] else 0])
    return hashlib.sha256(said.encode()).hexdigest()[:24]
