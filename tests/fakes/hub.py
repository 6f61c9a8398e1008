"""A fake hub over HTTP for the real `datasets` and `huggingface_hub` clients."""

from __future__ import annotations

import base64
import hashlib
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
class PushedTo:
    """A repository that was made: the branches' commits, oldest first, as path -> bytes."""

    name: str
    private: bool
    branches: dict[str, list[dict[str, bytes]]] = field(default_factory=lambda: {"main": [{".gitattributes": b"x"}]})
    messages: list[str] = field(default_factory=list)

    def sha(self, branch: str) -> str:
        commits = self.branches[branch]
        return hashlib.sha1(repr((branch, len(commits), sorted(commits[-1].items()))).encode()).hexdigest()


@dataclass
class Hub:
    """Content of the fake: commits of one repository (path -> bytes), and the commit of each revision.

    Requests for data sets see it as `me/pairs`, requests for models as `me/bert`.
    """

    url: str = ""
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    served: list[str] = field(default_factory=list)
    request_count: int = 0
    """Number of requests, with or without a response."""
    gated: bool = False
    failing: bool = False
    pushed: dict[str, PushedTo] = field(default_factory=dict)
    """Created repositories by name."""
    stored: dict[str, bytes] = field(default_factory=dict)
    """Uploaded large files by sha256."""
    tokens: dict[str, str] = field(default_factory=lambda: {"hf_writer": "me", "hf_reader": ""})
    """Owner to whose repositories a token may write, by token."""

    def add(self, revision: str, commit: str, files: dict[str, bytes]) -> None:
        self.revisions |= {revision: commit, commit: commit}
        self.commits[commit] = files


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD of repository info, trees and files, and all of a push, as huggingface_hub 2 asks for them.

    Of the ways to upload a large file it knows the older one, git LFS; the hub's own also has xet.
    """

    def do_GET(self):
        hub: Hub = self.server.hub
        hub.request_count += 1
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        if hub.failing:
            return self.answer(503, b"down", {})
        info = re.fullmatch(r"/api/models/(?P<repo>[^/]+/[^/]+)/revision/(?P<at>.+)", path)
        if info and info["repo"] in hub.pushed:
            repo, branch = hub.pushed[info["repo"]], unquote(info["at"])
            if branch not in repo.branches:
                return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return self.json({"id": info["repo"], "sha": repo.sha(branch), "private": repo.private, "tags": []})
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
        headers = {"X-Repo-Commit": commit, "ETag": f'"{commit[:8]}-{len(files[name])}"', "Accept-Ranges": "bytes"}
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if part is None or self.command == "HEAD":
            return self.answer(200, files[name], headers)
        first, last = int(part[1]), min(int(part[2] or len(files[name])), len(files[name]) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(files[name])}"
        return self.answer(206, files[name][first : last + 1], headers)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self):
        hub: Hub = self.server.hub
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path)
        if hub.failing:
            return self.answer(503, b"down", {})
        if path == "/api/validate-yaml":
            bad = "license: nonsense" in json.loads(body)["content"]
            response = {"errors": [{"message": "no license"}] if bad else [], "warnings": []}
            return self.json(response, 400 if bad else 200)
        owner = hub.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        if owner is None:
            return self.answer(401, b"", {"X-Error-Message": "Invalid username or password."})
        if path == "/api/repos/create":
            return self.create(json.loads(body), owner)
        match = re.fullmatch(
            r"/(?:api/models/)?(?P<repo>[^/]+/[^/]+?)(?:\.git/info)?/(?P<what>[a-z]+)/(?P<at>.+)", path
        )
        if match is None or match["repo"] not in hub.pushed:
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        if match["repo"].split("/")[0] != owner:
            return self.answer(403, b"", {})
        act = {"branch": self.branch, "preupload": self.preupload, "lfs": self.batch, "commit": self.commit}
        return act[match["what"]](hub.pushed[match["repo"]], match["at"], body)

    def create(self, requested, owner):
        hub: Hub = self.server.hub
        if requested["organization"] != owner:
            return self.answer(403, b"", {"X-Error-Message": "You don't have the rights to create a model there"})
        name = f"{owner}/{requested['name']}"
        known = name in hub.pushed
        hub.pushed.setdefault(name, PushedTo(name, private=requested.get("visibility") == "private"))
        return self.json({"url": f"{hub.url}/{name}"}, 409 if known else 200)

    def branch(self, repo, name, body):
        known = name in repo.branches
        repo.branches.setdefault(name, [repo.branches["main"][-1]])
        return self.json({}, 409 if known else 200)

    def preupload(self, repo, branch, body):
        if branch not in repo.branches:
            return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        answers = []
        for path in (file["path"] for file in json.loads(body)["files"]):
            large, there, oid = path.endswith(".safetensors"), repo.branches[branch][-1].get(path), None
            if there is not None:
                git = hashlib.sha1(b"blob %d\0" % len(there) + there)
                oid = (hashlib.sha256(there) if large else git).hexdigest()
            mode = "lfs" if large else "regular"
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return self.json({"files": answers})

    def batch(self, repo, what, body):
        hub: Hub = self.server.hub
        objects = []
        for lfs_object in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{hub.url}/upload/{lfs_object['oid']}"}}
            objects.append(lfs_object if lfs_object["oid"] in hub.stored else {**lfs_object, "actions": upload})
        return self.json({"transfer": "basic", "objects": objects})

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.rsplit("/", 1)[1]
        if hashlib.sha256(content).hexdigest() != oid:
            return self.answer(400, b"", {})
        self.server.hub.stored[oid] = content
        return self.answer(200, b"", {})

    def commit(self, repo, branch, body):
        header, *operations = [json.loads(line) for line in body.splitlines()]
        if header["value"].get("parentCommit", repo.sha(branch)) != repo.sha(branch):
            return self.answer(412, b"", {"X-Error-Message": "A commit has happened since."})
        files = dict(repo.branches[branch][-1])
        for operation in operations:
            value, large = operation["value"], operation["key"] == "lfsFile"
            files[value["path"]] = self.server.hub.stored[value["oid"]] if large else base64.b64decode(value["content"])
        repo.branches[branch].append(files)
        repo.messages.append(header["value"]["summary"])
        sha = repo.sha(branch)
        return self.json({"commitUrl": f"{self.server.hub.url}/{repo.name}/commit/{sha}", "commitOid": sha})

    def tree(self, files, folder):
        prefix = f"{folder}/" if folder else ""
        below = [name for name in files if name.startswith(prefix)]
        folders = {name.rsplit("/", depth)[0] for name in below for depth in range(1, name.count("/") + 1)}
        entries = [{"type": "directory", "path": name, "oid": "0"} for name in sorted(folders) if name != folder]
        entries += [{"type": "file", "path": name, "oid": "0", "size": len(files[name])} for name in below]
        return self.json(entries) if below else self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})

    def json(self, value, status=200):
        self.answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

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
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", url)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache / "datasets")
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", cache / "downloads")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
