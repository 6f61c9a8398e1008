"""A fake Weights & Biases server that records everything wandb-core sends.

It implements opening and resuming of runs (GraphQL), rows of metrics (the file stream), files and artifacts.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

KEY = "k" * 40  # as long as a real one


@dataclass
class Run:
    """Everything the server received for one run."""

    about: dict[str, Any] = field(default_factory=dict)
    """The last value received of groupName, jobType, displayName, config and others."""
    opened: int = 0
    """Number of times the run was opened or resumed."""
    lines: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    """File of the stream -> its lines by number."""
    files: dict[str, bytes] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    manifests: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        """Rows of metrics in the order of their lines."""
        return [json.loads(line) for _, line in sorted(self.lines["wandb-history.jsonl"].items())]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration without the entries that wandb adds."""
        return {name: entry["value"] for name, entry in json.loads(self.about["config"]).items() if name != "_wandb"}

    @property
    def summary(self) -> dict[str, Any]:
        """The last summary received."""
        lines = self.lines["wandb-summary.json"]
        return dict(json.loads(lines[max(lines)])) if lines else {}


class WandbServer(ThreadingHTTPServer):
    """The server, on an unused port; `runs` maps ids to runs."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.runs: dict[str, Run] = defaultdict(Run)
        self.silent = threading.Event()
        """While set, requests are accepted and never answered."""
        self.lock = threading.Lock()

    def handle_error(self, *_: Any) -> None:
        """Ignore connections that a process cuts on exit."""

    def environment(self) -> dict[str, str]:
        """Return the environment of a process that logs to this server."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false"}

    def graphql(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the response to a query or mutation."""
        match operation:
            case "Viewer":
                return {
                    "viewer": {
                        "id": "u",
                        "entity": "us",
                        "username": "us",
                        "email": "",
                        "flags": "{}",
                        "teams": {"edges": []},
                    }
                }
            case "RunResumeStatus":
                return {"model": self._resume_status(variables["name"])}
            case "UpsertBucket":
                return {"upsertBucket": self._upsert(variables)}
            case "CreateRunFiles":
                files = [
                    {"name": name, "uploadUrl": f"{self.url}/upload/{variables['run']}/{name}"}
                    for name in variables["files"]
                ]
                return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}
            case "CreateArtifact":
                fields = variables["input"]
                self.runs[fields["runName"]].artifacts.append(fields)
                artifact = {"id": f"{fields['runName']}:{fields['artifactCollectionName']}", "state": "PENDING"}
                return {
                    "createArtifact": {
                        "artifact": {**artifact, "artifactSequence": {"id": "s", "latestArtifact": None}}
                    }
                }
            case "CreateArtifactManifest":
                file = {"id": "f", "name": variables["name"], "displayName": variables["name"], "uploadHeaders": []}
                upload = f"{self.url}/artifact/{variables['artifactID'].split(':')[0]}/{variables['name']}"
                return {
                    "createArtifactManifest": {"artifactManifest": {"id": "m", "file": {**file, "uploadUrl": upload}}}
                }
            case "CreateArtifactFiles":
                edges = [{"node": self._artifact_file(spec)} for spec in variables["input"]["artifactFiles"]]
                return {"createArtifactFiles": {"files": {"edges": edges}}}
            case "CommitArtifact":
                return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": ""}}}
            case "ArtifactType":
                return {"project": None}
        return {}

    def _artifact_file(self, spec: dict[str, Any]) -> dict[str, Any]:
        upload = f"{self.url}/artifact-file/{spec['name']}"
        node = {"id": "f", "name": spec["name"], "displayName": spec["name"], "storagePath": spec["name"]}
        return {
            **node,
            "uploadUrl": upload,
            "uploadHeaders": [],
            "uploadMultipartUrls": None,
            "artifact": {"id": spec["artifactID"]},
        }

    def _resume_status(self, name: str) -> dict[str, Any]:
        model: dict[str, Any] = {"id": "p", "name": "project", "entity": {"id": "e", "name": "us"}, "bucket": None}
        if name not in self.runs:
            return model
        run = self.runs[name]
        tails = {
            f"{kind}Tail": json.dumps([line for _, line in sorted(run.lines[f"wandb-{kind}.jsonl"].items())][-1:])
            for kind in ("history", "events")
        }
        counts = {f"{kind}LineCount": len(run.lines[f"wandb-{kind}.jsonl"]) for kind in ("history", "events")}
        known = {"id": name, "name": name, "displayName": run.about.get("displayName"), "config": run.about["config"]}
        more = {"summaryMetrics": json.dumps(run.summary), "logLineCount": 0, "tags": [], "notes": None}
        return {**model, "bucket": {**known, **tails, **counts, **more, "wandbConfig": json.dumps({"t": 1})}}

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[variables["name"]]
        if variables.get("groupName") or not run.opened:
            run.opened += 1
        run.about |= {name: value for name, value in variables.items() if value is not None}
        project = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": "us"}}
        lines = len(run.lines["wandb-history.jsonl"])
        about = {name: run.about.get(name) for name in ("displayName", "description", "config")}
        bucket = {"id": variables["name"], "name": variables["name"], **about, "sweepName": None, "project": project}
        return {"bucket": {**bucket, "historyLineCount": lines}, "inserted": not lines}

    def stream(self, name: str, message: dict[str, Any]) -> None:
        """Store lines of the file stream."""
        run = self.runs[name]
        for file, piece in (message.get("files") or {}).items():
            for number, line in enumerate(piece["content"], start=piece["offset"]):
                run.lines[file][number] = line
        if message.get("complete"):
            run.exit_code = message.get("exitcode")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def do_POST(self) -> None:
        body = self._body()
        with self.server.lock:
            if self.path == "/graphql":
                query = json.loads(body)
                name = re.match(r"\s*(?:query|mutation)\s+(\w+)", query["query"])
                self._answer({"data": self.server.graphql(name[1] if name else "", query.get("variables") or {})})
            elif self.path.endswith("/file_stream"):
                self.server.stream(self.path.split("/")[-2], json.loads(body))
                self._answer({})
            else:
                self._answer({})

    def do_PUT(self) -> None:
        body = self._body()
        kind, name, *rest = self.path.strip("/").split("/", 2)
        with self.server.lock:
            if kind == "upload":
                self.server.runs[name].files[rest[0]] = body
            elif kind == "artifact":
                self.server.runs[name].manifests.append(json.loads(body))
            self._answer({})

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.silent.is_set():
            threading.Event().wait()
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Suppress the access log."""


@pytest.fixture
def wandb_server() -> Iterator[WandbServer]:
    """A running fake server."""
    server = WandbServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
