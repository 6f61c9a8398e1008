"""Commands that read a corrupt artifact fail, name the file, and use nothing of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ftjobs import artifacts
from ftjobs.artifacts import Manifest
from ftjobs.storage import Storage, open_storage
from tests.fakes.s3_server import BUCKET
from tests.helpers.commands import FILES, METRICS, plan_job

WEIGHTS = bytes(range(256)) * 4096  # 1 MB
_SHA256 = "has another sha256 than in its manifest"


class Published:
    """The artifact of `adapt`, with one method per kind of damage; each returns the URI of the damaged file."""

    def __init__(self, storage: Storage, manifest: Manifest, folder: Path) -> None:
        self.storage, self.manifest, self.folder = storage, manifest, folder
        self.manifest_key = f"{manifest.key}/manifest.json"
        self.weights_key = f"{manifest.folder}/model/model.safetensors"

    def write(self, key: str, data: bytes) -> str:
        (self.folder / "to-put").write_bytes(data)
        self.storage.put(self.folder / "to-put", key)
        return self.storage.uri(key)

    def flip_a_bit(self) -> str:
        half = len(WEIGHTS) // 2
        return self.write(self.weights_key, WEIGHTS[:half] + bytes([WEIGHTS[half] ^ 1]) + WEIGHTS[half + 1 :])

    def truncate(self) -> str:
        return self.write(self.weights_key, WEIGHTS[: len(WEIGHTS) // 2])

    def remove(self) -> str:
        self.storage.delete(self.weights_key)
        return self.storage.uri(self.weights_key)

    def add(self) -> str:
        return self.write(f"{self.manifest.folder}/model/pytorch_model.bin", b"left by another tool")

    def cut_manifest(self) -> str:
        return self.write(self.manifest_key, self.storage.read(self.manifest_key)[:-100])

    def flip_a_bit_of_a_metric(self) -> str:
        data = self.storage.read(self.manifest_key)
        start = data.index(b'"perplexity": ') + len(b'"perplexity": ')
        return self.write(self.manifest_key, data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :])

    def later_version(self) -> str:
        fields = json.loads(self.storage.read(self.manifest_key)) | {"version": 2, "compression": "zstd"}
        return self.write(self.manifest_key, json.dumps(fields).encode())


#: Damage, and the problem that the error reports for the file.
CASES: dict[str, tuple[Callable[[Published], str], str]] = {
    "one flipped bit": (Published.flip_a_bit, _SHA256),
    "one missing": (Published.remove, "is missing"),
    "one truncated": (Published.truncate, f"has {len(WEIGHTS) // 2} bytes instead of {len(WEIGHTS)}"),
    "one extra": (Published.add, "is not in the manifest"),
    "a manifest with one flipped bit": (Published.flip_a_bit_of_a_metric, "its content does not match its own sha256"),
    "a manifest that is not JSON": (Published.cut_manifest, "invalid manifest (the whole file: Invalid JSON"),
    "a manifest of a later version": (Published.later_version, "invalid manifest (version: Input should be 1)"),
}
COMMANDS = {
    "verify": ["verify"],
    "pull": ["pull", "job.yaml", "adapt", "new/model", "--seed", "1"],
    "pull by address": ["pull", "ADDRESS", "new/model"],
    "a reading stage": ["stage", "job.yaml", "head", "--seed", "1"],
}


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return "runs"
    request.getfixturevalue("s3")
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.mark.usefixtures("job_folder")
@pytest.mark.parametrize("case", CASES)
def test_readers_name_the_file_and_use_nothing(ftjobs, store, tmp_path, case):
    storage = open_storage(store)
    for run in plan_job():
        if run.stage in ("prepare", "adapt"):
            output = tmp_path / "outputs" / run.title
            for name, text in FILES[run.kind].items():
                (output / name).parent.mkdir(parents=True, exist_ok=True)
                (output / name).write_text(text)
            if run.title == "adapt seed 1":
                (output / "model/model.safetensors").write_bytes(WEIGHTS)
            manifest = artifacts.publish(storage, run, output, METRICS[run.kind], {})
            if run.title == "adapt seed 1":
                published = Published(storage, manifest, tmp_path)
    damage, problem = CASES[case]
    uri = damage(published)
    before = {entry.key: entry.size for entry in storage.list("")}
    (tmp_path / "new").mkdir()
    for name, command in COMMANDS.items():
        arguments = [storage.uri(published.manifest.key) if word == "ADDRESS" else word for word in command]
        result = ftjobs(*arguments, "--store", store)
        errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert result.exit_code == 1, name
        assert result.stdout == "", name
        assert len(errors) == 1, (name, result.stderr)
        assert errors[0].startswith(f"error: {uri}"), (name, errors[0])
        assert problem in errors[0], (name, errors[0])
        assert list((tmp_path / "new").iterdir()) == [], name
        # A stage that cannot start records the reason for `status`; nothing else is written.
        after = {entry.key: entry.size for entry in storage.list("") if not entry.key.endswith("/failed.json")}
        assert after == before, name
