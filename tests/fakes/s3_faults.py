"""Faults that tests inject between client and S3 server, and the `proxy` fixture that injects them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ftjobs.storage import s3_client
from tests.fakes import fault_proxy
from tests.fakes.fault_proxy import Fault, Proxy, Request, Response, error_response
from tests.fakes.s3_server import S3Server, sign_again

Forward = Callable[[Request], Response]


@pytest.fixture
def proxy(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy in front of the server, with the environment set to use it and short retry delays."""
    monkeypatch.setattr(s3_client, "MIN_BACKOFF", 0.01)
    monkeypatch.setattr(s3_client, "RETRY_SECONDS", 10.0)
    with fault_proxy.proxy(s3.url) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.url)
        yield running


def flip_bit(data: bytes) -> bytes:
    """Flip one bit in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def cut_response(request: Request, forward: Forward) -> Response:
    """Close the connection in the middle of the body."""
    response = forward(request)
    response.cut = len(response.body) // 2
    return response


def truncate_response(request: Request, forward: Forward) -> Response:
    """Return half of the body, with a Content-Length that matches the half."""
    response = forward(request)
    response.body = response.body[: len(response.body) // 2]
    return response


def corrupt_response(request: Request, forward: Forward) -> Response:
    """Flip one bit of the response body."""
    response = forward(request)
    response.body = flip_bit(response.body)
    return response


def corrupt_request(request: Request, forward: Forward) -> Response:
    """Flip one bit of the request body."""
    request.body = flip_bit(request.body)
    return forward(request)


def lose_response(request: Request, forward: Forward) -> None:
    """Let the server process the request, and close the connection without a response."""
    forward(request)


def hang_up(request: Request, forward: Forward) -> None:
    """Close the connection without forwarding the request."""


def ignore_conditions(request: Request, forward: Forward) -> Response:
    """Behave like a store that does not implement If-None-Match."""
    if request.headers.pop("If-None-Match", None):
        sign_again(request)
    return forward(request)


def respond(status: int, code: str, headers: dict[str, str] | None = None) -> Fault:
    """Return a fault that answers with an S3 error."""
    return lambda request, forward: error_response(status, code, headers)


def has_method(method: str, path_part: str = "") -> Callable[[Request], bool]:
    """Return a predicate for requests with a method and a part of a path."""
    return lambda request: request.method == method and path_part in request.path
