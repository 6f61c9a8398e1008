"""A fake API server for `submit`: objects of any kind, server-side apply with its rejections, and errors on demand."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]


@dataclass
class ApplyServer:
    """Objects of the server, and its errors."""

    namespaces: tuple[str, ...] = ("default", "team")
    groups: tuple[str, ...] = ("api/v1", "apis/batch/v1", "apis/rbac.authorization.k8s.io/v1")
    objects: dict[str, Object] = field(default_factory=dict)
    """By path."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Method and resource, such as `PATCH jobs` -> status and message."""
    port: int = 0
    deletes_left: int = 0
    """Requests that still see a deleted object."""

    def kubeconfig(self, path: Path, namespace: str | None = None) -> Path:
        """Write a kubeconfig with the context `here`."""
        context = {"cluster": "c", "user": "u"} | ({"namespace": namespace} if namespace else {})
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "here", "context": context}],
        }
        path.write_text(json.dumps(config))
        return path

    def of_kind(self, kind: str) -> dict[str, Object]:
        """Objects of a kind, by name."""
        return {o["metadata"]["name"]: o for o in self.objects.values() if o["kind"] == kind}

    def end(self, name: str, condition: str, **more: str) -> None:
        """Set the condition of a Job or JobSet."""
        workload = next(o for o in self.objects.values() if o["metadata"]["name"] == name and "spec" in o)
        workload["status"] = {"conditions": [{"type": condition, "status": "True", **more}]}

    def answer(self, method: str, url: str, body: Object | None, content_type: str) -> tuple[int, Object]:
        """Handle a request; returns status and body."""
        parts = urlsplit(url)
        path, query = parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.requests.append((method, path))
        prefix, _, rest = path.lstrip("/").partition("/namespaces/")
        namespace, plural, *name = rest.split("/")
        error = self.refuse.get(f"{method} {plural}")
        if error:
            return _status(*error)
        if prefix not in self.groups:
            return _status(404, "the server could not find the requested resource")
        if method == "GET" and not name:
            selected = [
                {key: value for key, value in o.items() if key not in ("kind", "apiVersion")}  # omitted in lists
                for p, o in self.objects.items()
                if p.startswith(path + "/") and _matches(o, query["labelSelector"])
            ]
            return 200, {"kind": "List", "metadata": {"resourceVersion": "1"}, "items": selected}
        existing = self.objects.get(path)
        if method == "PATCH":
            return self._apply(path, namespace, existing, body or {}, query, content_type)
        if existing is None:
            return _status(404, f'{plural} "{name[0]}" not found')
        if method == "DELETE":
            assert query["propagationPolicy"] == "Background"
            existing["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            if not self.deletes_left:
                del self.objects[path]
        elif "deletionTimestamp" in existing["metadata"]:
            self.deletes_left -= 1
            if self.deletes_left <= 0:
                del self.objects[path]
        return 200, existing

    def _apply(
        self, path: str, namespace: str, existing: Object | None, body: Object, query: dict[str, str], content_type: str
    ) -> tuple[int, Object]:
        assert content_type == "application/apply-patch+yaml"
        assert query["fieldManager"] == "ftjobs"
        assert query["force"] == "true"
        assert body["metadata"].get("namespace", namespace) == namespace
        assert path.endswith("/" + body["metadata"]["name"])
        if namespace not in self.namespaces:
            return _status(404, f'namespaces "{namespace}" not found')
        metadata = {
            **body["metadata"],
            "namespace": namespace,
            "uid": str(uuid.uuid4()),
            "resourceVersion": str(len(self.requests)),
        }
        applied = body | {"metadata": metadata}
        if existing is not None:
            if existing.get("immutable") and existing.get("data") != body.get("data"):
                return _status(422, "data: Forbidden: field is immutable when `immutable` is set")
            if body.get("spec", {}).get("template") != existing.get("spec", {}).get("template"):
                return _status(422, "spec.template: Invalid value: field is immutable")
            metadata["uid"] = existing["metadata"]["uid"]
            if {**existing, "metadata": 0} == {**applied, "metadata": 0}:
                applied = existing
        if query.get("dryRun") != "All":
            self.objects[path] = applied
        return (200 if existing else 201), json.loads(json.dumps(applied))


@contextmanager
def running(server: ApplyServer) -> Iterator[ApplyServer]:
    """Run the server on a free loopback port."""

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, answer = server.answer(self.command, self.path, body, self.headers.get("Content-Type", ""))
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PATCH = do_DELETE = _handle  # noqa: N815 (http.server's names)

        def log_message(self, *arguments: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.port = http.server_address[1]
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


def _status(code: int, message: str) -> tuple[int, Object]:
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


def _matches(candidate: Object, selector: str) -> bool:
    labels = candidate["metadata"].get("labels", {})
    for term in selector.split(","):
        key, equals, value = term.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True
