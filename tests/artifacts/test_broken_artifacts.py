"""What is broken in the store stops whoever reads it: `verify`, `pull` and a stage, by name and with nothing used."""

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
_SHA256 = "has another sha256 than its manifest says"


class Published:
    """The artifact of `adapt`, to be spoilt."""

    def __init__(self, storage: Storage, manifest: Manifest, folder: Path) -> None:
        self.storage, self.manifest, self.folder = storage, manifest, folder
        self.of_manifest = f"{manifest.key}/manifest.json"
        self.of_weights = f"{manifest.folder}/model/model.safetensors"

    def write(self, key: str, data: bytes) -> str:
        (self.folder / "to-put").write_bytes(data)
        self.storage.put(self.folder / "to-put", key)
        return self.storage.uri(key)

    def flip_a_bit(self) -> str:
        half = len(WEIGHTS) // 2
        return self.write(self.of_weights, WEIGHTS[:half] + bytes([WEIGHTS[half] ^ 1]) + WEIGHTS[half + 1 :])

    def truncate(self) -> str:
        return self.write(self.of_weights, WEIGHTS[: len(WEIGHTS) // 2])

    def remove(self) -> str:
        self.storage.delete(self.of_weights)
        return self.storage.uri(self.of_weights)

    def add(self) -> str:
        return self.write(f"{self.manifest.folder}/model/pytorch_model.bin", b"left by another tool")

    def no_json(self) -> str:
        return self.write(self.of_manifest, self.storage.read(self.of_manifest)[:-100])

    def other_figure(self) -> str:
        data = self.storage.read(self.of_manifest)
        figure = data.index(b'"perplexity": ') + len(b'"perplexity": ')
        return self.write(self.of_manifest, data[:figure] + bytes([data[figure] ^ 1]) + data[figure + 1 :])

    def later_version(self) -> str:
        fields = json.loads(self.storage.read(self.of_manifest)) | {"version": 2, "compression": "zstd"}
        return self.write(self.of_manifest, json.dumps(fields).encode())


#: How the store is spoilt, and what is said of the file that it concerns.
CASES: dict[str, tuple[Callable[[Published], str], str]] = {
    "one flipped bit": (Published.flip_a_bit, _SHA256),
    "one missing": (Published.remove, "is missing"),
    "one truncated": (Published.truncate, f"has {len(WEIGHTS) // 2} bytes instead of {len(WEIGHTS)}"),
    "one extra": (Published.add, "is not in the manifest"),
    "a manifest with one flipped bit": (Published.other_figure, "has another sha256 than it says of itself"),
    "a manifest that is not JSON": (Published.no_json, "no valid manifest (the whole file: Invalid JSON"),
    "a manifest of a later version": (Published.later_version, "no valid manifest (version: Input should be 1)"),
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
def test_whoever_reads_it_names_the_file_and_stops(ftjobs, store, tmp_path, case):
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
    spoil, said = CASES[case]
    uri = spoil(published)
    before = {entry.key: entry.size for entry in storage.list("")}
    (tmp_path / "new").mkdir()
    for name, command in COMMANDS.items():
        arguments = [storage.uri(published.manifest.key) if word == "ADDRESS" else word for word in command]
        found = ftjobs(*arguments, "--store", store)
        errors = [line for line in found.stderr.splitlines() if line.startswith("error: ")]
        assert found.exit_code == 1, name
        assert found.stdout == "", name
        assert len(errors) == 1, (name, found.stderr)
        assert errors[0].startswith(f"error: {uri}"), (name, errors[0])
        assert said in errors[0], (name, errors[0])
        assert list((tmp_path / "new").iterdir()) == [], name
        # A stage that could not start says why to `status`; nothing else is written.
        after = {entry.key: entry.size for entry in storage.list("") if not entry.key.endswith("/failed.json")}
        assert after == before, name
