"""A small artifact, and a local store that behaves like a remote one."""

from __future__ import annotations

from pathlib import Path

from ftjobs import artifacts
from ftjobs.artifacts import Manifest
from ftjobs.plan import StageRun
from ftjobs.storage import LocalStorage, Storage

FILES = {
    "metrics.json": b'{"accuracy": 0.5}',
    "model/config.json": b"{}",
    "model/model.safetensors": bytes(range(256)) * 40,
    "model/deep/er/x.txt": b"",
}
MODEL_FILES = {path.removeprefix("model/"): data for path, data in FILES.items() if path.startswith("model/")}


class RemoteStorage(LocalStorage):
    """A folder that is used like a remote store: every file is copied."""

    def local_path(self, key: str) -> Path | None:
        return None


def publish(storage: Storage, run: StageRun, output: Path) -> Manifest:
    return artifacts.publish(storage, run, output, {"accuracy": 0.5}, {"python": "3"})
