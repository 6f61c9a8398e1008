"""A fake API server over HTTP for the Jobs of one namespace: get, list, watch and patch, with faults on demand."""

from __future__ import annotations

import copy
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Json = dict[str, Any]
PATH = re.compile(r"/apis/batch/v1/namespaces/(?P<namespace>[^/]+)/jobs(?:/(?P<name>[^/]+))?")
PATCHES = ("application/merge-patch+json", "application/strategic-merge-patch+json")
USER = "system:serviceaccount:team:conductor"


@dataclass
class Request:
    """A request of a client."""

    verb: str
    """RBAC verb: get, list, watch or patch."""
    name: str | None
    query: dict[str, str]
    body: Json | None = None


@dataclass
class Answer:
    """A faulty response. `cut`: the connection is closed after that many bytes of the body."""

    status: int
    message: str = "injected"
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


HANG_UP = Answer(0)
#: Returns the fault of a request, None for none.
Fault = Callable[[Request], Answer | None]


class ApiServer:
    """A running server with the Jobs of one namespace, `team`."""

    namespace = "team"

    def __init__(self) -> None:
        self.jobs: dict[str, Json] = {}
        self.seen: list[Request] = []
        self.fault: Fault = lambda request: None
        self.forbidden: set[str] = set()
        self.token: str | None = None
        """Accepted bearer token; None accepts any."""
        self.longest_watch = 60.0
        """Seconds after which watches end, regardless of the requested timeout."""
        self.changed = threading.Condition(threading.RLock())
        self._version = 1000
        self._events: list[tuple[int, str, Json]] = []
        self._oldest = 0
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.is_up = False
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def up(self) -> None:
        """Listen, after `down` at the same address."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), type("Handler", (_Handler,), {"api": self}))
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        self.is_up = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Switch to TLS."""
        assert self._server is not None
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def down(self) -> None:
        """Refuse connections, and end open watches."""
        with self.changed:
            self.is_up = False
            self.changed.notify_all()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def apply(self, *manifests: Json) -> None:
        """Create objects or set every field of their manifests, as `kubectl apply` does."""
        with self.changed:
            for manifest in manifests:
                name = manifest["metadata"]["name"]
                self._store("MODIFIED" if name in self.jobs else "ADDED", merged(self.jobs.get(name, {}), manifest))

    def change(self, name: str, patch: Json) -> None:
        """Merge a patch of another client, such as the Job controller."""
        with self.changed:
            if name in self.jobs:
                self._store("MODIFIED", merged(self.jobs[name], patch))

    def delete(self, name: str) -> None:
        with self.changed:
            self._record("DELETED", self.jobs.pop(name))

    def forget_history(self) -> None:
        """Expire old resource versions, as etcd does every five minutes: older watches get 410."""
        with self.changed:
            self._version += 1
            self._oldest = self._version
            self._events.clear()

    def count(self, verb: str) -> int:
        return sum(request.verb == verb for request in self.seen)

    def patches(self, name: str) -> list[Json]:
        """Bodies of all patches of a Job."""
        return [
            request.body for request in self.seen if request.verb == "patch" and request.name == name and request.body
        ]

    def listing(self, selector: str) -> Json:
        with self.changed:
            items = [copy.deepcopy(job) for job in self.jobs.values() if selected(job, selector)]
            for item in items:  # a real server omits these in lists
                item.pop("kind", None)
                item.pop("apiVersion", None)
            return {
                "kind": "JobList",
                "apiVersion": "batch/v1",
                "metadata": {"resourceVersion": str(self._version)},
                "items": items,
            }

    def events(self, since: int, selector: str, seconds: float) -> Iterator[Json]:
        """Yield changes after a resource version."""
        if since < self._oldest:
            yield {"type": "ERROR", "object": status(410, "too old resource version", "Expired")}
            return
        ends = threading.Event()
        timer = threading.Timer(min(seconds, self.longest_watch), self._end, args=(ends,))
        timer.daemon = True
        timer.start()
        try:
            while True:
                with self.changed:
                    while (
                        not ends.is_set()
                        and self.is_up
                        and not (new := [event for event in self._events if event[0] > since])
                    ):
                        self.changed.wait()
                    if ends.is_set() or not self.is_up:
                        return
                for version, kind, job in new:
                    since = version
                    if selected(job, selector):
                        yield {"type": kind, "object": job}
        finally:
            timer.cancel()

    def _end(self, event: threading.Event) -> None:
        with self.changed:
            event.set()
            self.changed.notify_all()

    def _store(self, kind: str, job: Json) -> None:
        if kind == "MODIFIED" and job == self.jobs[job["metadata"]["name"]]:
            return  # a no-op patch is no event
        before = self.jobs.get(job["metadata"]["name"])
        generation = before["metadata"]["generation"] if before else 0
        job["metadata"]["generation"] = generation + (before is None or before["spec"] != job["spec"])
        self.jobs[job["metadata"]["name"]] = job
        self._record(kind, job)

    def _record(self, kind: str, job: Json) -> None:
        self._version += 1
        job["metadata"]["resourceVersion"] = str(self._version)
        self._events.append((self._version, kind, copy.deepcopy(job)))
        self.changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    api: ApiServer

    def do_GET(self) -> None:
        self._handle(None)

    def do_PATCH(self) -> None:
        self._handle(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _handle(self, body: Json | None) -> None:
        url = urlsplit(self.path)
        match, query = PATH.fullmatch(url.path), dict(parse_qsl(url.query))
        if match is None:
            self._send(404, status(404, f"the server could not find the requested resource {url.path}"))
            return
        name = match["name"]
        verb = (
            "patch"
            if self.command == "PATCH"
            else "get"
            if name
            else "watch"
            if query.get("watch") in ("true", "True")
            else "list"
        )
        request = Request(verb, name, query, body)
        self.api.seen.append(request)
        fault = self.api.fault(request)
        if fault is HANG_UP or not self.api.is_up:
            self.close_connection = True
        elif fault is not None and fault.cut is None:
            self._send(fault.status, status(fault.status, fault.message), fault.headers)
        elif self.api.token is not None and self.headers["Authorization"].split() not in self._accepted():
            self._send(401, status(401, "Unauthorized"))
        elif verb in self.api.forbidden:
            where = f'in API group "batch" in the namespace "{match["namespace"]}"'
            self._send(
                403, status(403, f'jobs.batch is forbidden: User "{USER}" cannot {verb} resource "jobs" {where}')
            )
        else:
            self._carry_out(request, match["namespace"] == self.api.namespace, fault.cut if fault else None)

    def _accepted(self) -> list[list[str]]:
        return [[scheme, str(self.api.token)] for scheme in ("Bearer", "bearer")]  # clients differ in case

    def _carry_out(self, request: Request, is_here: bool, cut: int | None) -> None:
        selector = request.query.get("labelSelector", "")
        if request.verb == "list":
            self._send(200, self.api.listing(selector if is_here else "nothing=here"), cut=cut)
        elif request.verb == "watch":
            self._watch(request, selector)
        elif not is_here or request.name not in self.api.jobs:
            self._send(404, status(404, f'jobs.batch "{request.name}" not found'))
        elif request.verb == "get":
            self._send(200, self.api.jobs[request.name])
        else:
            self._send(*self._patched(request.name, request.body or {}), cut=cut)

    def _patched(self, name: str, patch: Json) -> tuple[int, Json]:
        if self.headers["Content-Type"] not in PATCHES:
            return 415, status(415, f"the body of the request was in an unknown format {self.headers['Content-Type']}")
        after = merged(self.api.jobs[name], patch)
        if problem := invalid(after):
            return 422, status(422, f'Job.batch "{name}" is invalid: {problem}')
        self.api.change(name, patch)
        return 200, self.api.jobs[name]

    def _watch(self, request: Request, selector: str) -> None:
        self.send_response_only(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        seconds = float(request.query.get("timeoutSeconds", 1800))
        try:
            for event in self.api.events(int(request.query["resourceVersion"]), selector, seconds):
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n" if self.api.is_up else b"")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client closed the watch
        self.close_connection = True

    def _send(self, code: int, content: Json, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        data = json.dumps(content).encode()
        self.send_response_only(code)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[:cut])
        self.close_connection = self.close_connection or cut is not None

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def status(code: int, message: str, reason: str = "") -> Json:
    """A Status object, the API's error response."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def merged(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386); for maps of scalars a strategic merge patch is the same."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def invalid(job: Json) -> str | None:
    """The validation error of a real server for the fields that a controller writes, None if valid."""
    if not isinstance(job["spec"].get("suspend", False), bool):
        return "spec.suspend: must be a boolean"
    for kind in ("labels", "annotations"):
        for key, value in job["metadata"].get(kind, {}).items():
            if not re.fullmatch(r"([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?", key) or not isinstance(
                value, str
            ):
                return f"metadata.{kind}: {key}: {value!r}"
            if kind == "labels" and not re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", value):
                return f"metadata.labels: {key}: {value!r}"
    return None


def selected(job: Json, selector: str) -> bool:
    """Return whether a Job matches a label selector with terms `a=b` and `a`."""
    labels = job["metadata"].get("labels", {})
    parts = [part.partition("=") for part in selector.split(",") if part]
    return all(key in labels and (not equals or labels[key] == value) for key, equals, value in parts)


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """Run a server on a free loopback port."""
    server = ApiServer()
    try:
        yield server
    finally:
        server.down()


def kubeconfig(server: ApiServer, path: Path, token: Path | None = None, namespace: str = ApiServer.namespace) -> Path:
    """Write a kubeconfig with the current context `here` for the server, and `nowhere` for a closed port."""
    user = {"tokenFile": str(token)} if token else {"token": "any"}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "here", "cluster": {"server": server.url}},
            {"name": "nowhere", "cluster": {"server": "http://127.0.0.1:9"}},
        ],
        "users": [{"name": "me", "user": user}],
        "contexts": [
            {"name": "here", "context": {"cluster": "here", "user": "me", "namespace": namespace}},
            {"name": "nowhere", "context": {"cluster": "nowhere", "user": "me"}},
        ],
        "current-context": "here",
    }
    path.write_text(json.dumps(content))  # JSON is YAML
    return path
