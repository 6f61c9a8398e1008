"""An HTTP proxy between client and S3 server that injects network and server faults."""

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
    """A request from the client."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Response:
    """A response to the client. With `cut`, the connection is closed after that many bytes of the body."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: int | None = None


#: Maps a request to a response: the result of `forward(request)`, a different one, or None to close the connection.
Fault = Callable[[Request, Callable[[Request], Response]], Response | None]


class Proxy:
    """A running proxy. `fault` is applied to every request; `requests` lists the requests received so far."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.fault: Fault = no_fault
        self.requests: list[Request] = []
        self.is_down = False
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def count(self, method: str, path_part: str = "") -> int:
        """Return the number of requests with a method and a part of a path."""
        return sum(request.method == method and path_part in request.path for request in self.requests)

    def reset(self) -> None:
        """Remove the fault and forget the requests."""
        self.fault, self.requests = no_fault, []

    def down(self) -> None:
        """Refuse new connections and close existing ones."""
        self.is_down = True
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def up(self) -> None:
        """Listen on the same address as before."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        self.is_down = False
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()


def no_fault(request: Request, forward: Callable[[Request], Response]) -> Response | None:
    """Forward the request unchanged."""
    return forward(request)


def error_response(status: int, code: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error response in S3's format."""
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>Injected</Message></Error>'
    return Response(status, {"Content-Type": "application/xml", **(headers or {})}, body.encode())


def times(count: int, fault: Fault, matching: Callable[[Request], bool] = lambda request: True) -> Fault:
    """Apply a fault to the first `count` matching requests, and forward all others."""
    lock = threading.Lock()
    remaining = count

    def apply(request: Request, forward: Callable[[Request], Response]) -> Response | None:
        nonlocal remaining
        with lock:
            faulty = remaining > 0 and matching(request)
            remaining -= faulty
        return fault(request, forward) if faulty else forward(request)

    return apply


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    """Run a proxy in front of the server at `target`, on a free loopback port."""
    running = Proxy(target)
    try:
        yield running
    finally:
        running.down()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, self.path, dict(self.headers.items()), body)
        self.proxy.requests.append(request)
        response = None if self.proxy.is_down else self.proxy.fault(request, self._forward)
        if response is None or self.proxy.is_down:
            self.close_connection = True
            return
        self.send_response_only(response.status)
        length = response.headers.pop("Content-Length", None) if self.command == "HEAD" else None
        for name, value in response.headers.items():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body[: response.cut])
        if response.cut is not None:
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815 (names that http.server looks up)

    def setup(self) -> None:
        super().setup()
        self.upstream = http.client.HTTPConnection(self.proxy.target, timeout=60)

    def finish(self) -> None:
        self.upstream.close()
        super().finish()

    def _forward(self, request: Request) -> Response:
        # The Host header stays unchanged: it is covered by the signature.
        headers = {name: value for name, value in request.headers.items() if name.lower() != "expect"}
        self.upstream.request(request.method, request.path, request.body or None, headers)
        response = self.upstream.getresponse()
        return Response(response.status, dict(response.getheaders()), response.read())

    def log_message(self, format: str, *args: Any) -> None:
        """Suppress the access log."""
