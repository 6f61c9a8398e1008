"""A proxy between client and S3 server that does what networks and tired servers do."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Request:
    """A request on its way to the server."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """An answer on its way back. `cut`: the connection ends after that many bytes of the body."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: int | None = None


#: Looks at a request and, if it likes, answers it by `forward(request)`, by something else, or with None: hanging up.
Fault = Callable[[Request, Callable[[Request], Answer]], Answer | None]


class Proxy:
    """A running proxy. `fault` applies to each request; `seen` are the requests so far."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.fault: Fault = none
        self.seen: list[Request] = []
        self.is_down = False
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def count(self, method: str, part: str = "") -> int:
        """Requests of a method whose path has `part`."""
        return sum(request.method == method and part in request.path for request in self.seen)

    def down(self) -> None:
        """Refuse connections, and hang up those there are."""
        self.is_down = True
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def up(self) -> None:
        """Listen, at the same address as before."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        self.is_down = False
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()


def none(request: Request, forward: Callable[[Request], Answer]) -> Answer | None:
    """No fault."""
    return forward(request)


def error(status: int, code: str, headers: dict[str, str] | None = None) -> Answer:
    """An answer of S3's kind that says what is wrong."""
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>Injected</Message></Error>'
    return Answer(status, {"Content-Type": "application/xml", **(headers or {})}, body.encode())


def times(count: int, fault: Fault, matching: Callable[[Request], bool] = lambda request: True) -> Fault:
    """A fault for the first `count` requests that match; none for others."""
    lock = threading.Lock()
    left = count

    def now(request: Request, forward: Callable[[Request], Answer]) -> Answer | None:
        nonlocal left
        with lock:
            hit = left > 0 and matching(request)
            left -= hit
        return fault(request, forward) if hit else forward(request)

    return now


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    """A proxy in front of the server at `target`, on a free loopback port."""
    running = Proxy(target)
    try:
        yield running
    finally:
        running.down()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, self.path, dict(self.headers.items()), body)
        self.proxy.seen.append(request)
        answer = None if self.proxy.is_down else self.proxy.fault(request, self._forward)
        if answer is None or self.proxy.is_down:
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        length = answer.headers.pop("Content-Length", None) if self.command == "HEAD" else None
        for name, value in answer.headers.items():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[: answer.cut])
        if answer.cut is not None:
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any  # noqa: N815 (names that http.server looks for)

    def setup(self) -> None:
        super().setup()
        self.upstream = http.client.HTTPConnection(self.proxy.target, timeout=60)

    def finish(self) -> None:
        self.upstream.close()
        super().finish()

    def _forward(self, request: Request) -> Answer:
        # The Host header stays as it came: it is part of what was signed.
        headers = {name: value for name, value in request.headers.items() if name.lower() != "expect"}
        self.upstream.request(request.method, request.path, request.body or None, headers)
        answer = self.upstream.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
