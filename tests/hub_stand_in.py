"""A small stand-in for the hub, for the real `datasets` and `huggingface_hub` to talk to."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import datasets
import huggingface_hub.constants
import pytest


@dataclass
class Hub:
    """What the stand-in serves: commits of one repository (path -> bytes), and which commit each revision is.

    It is data set `me/pairs` to those who ask for data sets, and model `me/bert` to those who ask for models.
    """

    url: str = ""
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    served: list[str] = field(default_factory=list)
    gated: bool = False
    failing: bool = False

    def add(self, revision: str, commit: str, files: dict[str, bytes]) -> None:
        self.revisions |= {revision: commit, commit: commit}
        self.commits[commit] = files


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD of repository info, trees and files, as huggingface_hub 2 asks for them."""

    def do_GET(self):
        hub: Hub = self.server.hub
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        if hub.failing:
            return self.answer(503, b"down", {})
        repository = r"/(?:(?:api/)?datasets/(?P<data>me/pairs)|(?:api/models/)?(?P<model>me/bert))"
        match = re.fullmatch(rf"{repository}/(?P<what>revision|tree|resolve)/(?P<at>[^/]+)/?(?P<name>.*)", path)
        if match is None:
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        what, revision, name = match["what"], unquote(match["at"]), unquote(match["name"])
        commit = hub.revisions.get(revision)
        if commit is None:
            return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if what == "resolve" and hub.gated:
            return self.answer(403, b"", {"X-Error-Code": "GatedRepo"})
        files = hub.commits[commit]
        if what == "revision":
            siblings = [{"rfilename": file} for file in files]
            identity = match["data"] or match["model"]
            return self.json({"id": identity, "sha": commit, "siblings": siblings, "tags": []})
        if what == "tree":
            return self.tree(files, name)
        if name not in files:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        self.server.hub.served.append(name)
        return self.answer(200, files[name], {"X-Repo-Commit": commit, "ETag": f'"{commit[:8]}-{len(files[name])}"'})

    do_HEAD = do_POST = do_GET  # noqa: N815

    def tree(self, files, folder):
        prefix = f"{folder}/" if folder else ""
        below = [name for name in files if name.startswith(prefix)]
        folders = {name.rsplit("/", depth)[0] for name in below for depth in range(1, name.count("/") + 1)}
        entries = [{"type": "directory", "path": name, "oid": "0"} for name in sorted(folders) if name != folder]
        entries += [{"type": "file", "path": name, "oid": "0", "size": len(files[name])} for name in below]
        return self.json(entries) if below else self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})

    def json(self, value):
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub = Hub(url=f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    point_libraries_at(server.hub.url, tmp_path / "cache", monkeypatch)
    monkeypatch.chdir(tmp_path)
    yield server.hub
    server.shutdown()
    server.server_close()


def point_libraries_at(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", url)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache / "datasets")
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", cache / "downloads")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
