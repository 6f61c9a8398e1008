from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from ftjobs import artifacts
from ftjobs.artifacts.manifest import compute_sha256, read_manifest
from ftjobs.errors import CorruptArtifact, FtjobsError, InputsNotPublished, UserError
from ftjobs.plan import StageRun
from ftjobs.storage import LocalStorage, Storage
from tests.fakes.fault_proxy import times
from tests.fakes.s3_faults import (
    corrupt_response,
    cut_response,
    has_method,
    truncate_response,
)
from tests.helpers.artifacts import FILES, publish
from tests.helpers.storage import list_keys, put_bytes, read_files, write_files


class TestRequire:
    def test_missing_artifact_is_named_with_its_address(self, storage, head, runs):
        with pytest.raises(InputsNotPublished) as caught:
            artifacts.require_manifest(storage, head)
        assert str(caught.value) == f"head seed 42 is not published at {storage.uri(head.key)}; run it first"
        assert caught.value.exit_code == 75
        with pytest.raises(InputsNotPublished, match=r"^prepare is not published"):
            artifacts.require_manifest(storage, runs[0])

    def test_other_identities_are_not_found(self, storage, head, runs, output):
        publish(storage, head, output)
        assert [artifacts.find_manifest(storage, run) is not None for run in runs] == [False, False, True, False]


class TestListing:
    def test_lists_all_pipelines_or_one(self, storage, runs, output):
        for run in runs[:3]:
            publish(storage, run, output)
        assert [manifest.stage for manifest in artifacts.list_manifests(storage)] == ["adapt", "head", "prepare"]
        assert len(list(artifacts.list_manifests(storage, "small"))) == 3
        assert list(artifacts.list_manifests(storage, "sma")) == list(artifacts.list_manifests(storage, "other")) == []

    def test_manifest_json_inside_an_artifact_is_not_listed(self, storage, head, tmp_path):
        publish(storage, head, write_files(tmp_path / "out", {"manifest.json": b"x", "seed-1/abc/manifest.json": b"y"}))
        assert len(list(artifacts.list_manifests(storage))) == 1


class StoredManifest:
    """A stored manifest, to be read and changed."""

    def __init__(self, storage: Storage, key: str, folder: Path) -> None:
        self.storage, self.key, self.folder = storage, key, folder

    def read(self) -> bytes:
        return self.storage.read(self.key)

    def write(self, data: bytes) -> None:
        put_bytes(self.storage, self.key, data, self.folder)

    def change(self, field: str, value: object) -> None:
        """Change a field, and update the sha256."""
        fields = json.loads(self.read()) | {field: value}
        self.write(json.dumps(fields | {"sha256": compute_sha256(json.dumps(fields).encode())}).encode())


class TestManifests:
    """No manifest makes a reader touch files outside the artifact."""

    @pytest.fixture
    def manifest(self, storage, head, output, tmp_path) -> StoredManifest:
        publish(storage, head, output)
        return StoredManifest(storage, f"{head.key}/manifest.json", tmp_path)

    def refused(self, storage: Storage, head: StageRun, output: Path) -> str:
        messages = []
        for use in (
            lambda: artifacts.find_manifest(storage, head),
            lambda: artifacts.require_manifest(storage, head),
            lambda: list(artifacts.list_manifests(storage)),
            lambda: publish(storage, head, output),
        ):
            with pytest.raises(CorruptArtifact) as caught:
                use()
            messages.append(str(caught.value))
        assert len(set(messages)) == 1
        assert messages[0].startswith(f"{storage.uri(head.key)}/manifest.json: ")
        assert artifacts.verify(storage, head.key) == messages[:1]
        return messages[0]

    @pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}", b'{"version": 1}'])
    def test_malformed_manifest_is_refused(self, storage, head, manifest, output, text):
        manifest.write(text)
        assert "invalid manifest" in self.refused(storage, head, output)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("version", 2),
            ("version", "1"),
            ("identity", "0"),
            ("attempt", "../x"),
            ("attempt", ""),
            ("attempt", "a/b"),
            ("seed", "42"),
            ("later", True),
        ],
    )
    def test_later_versions_and_invalid_fields_are_refused(self, storage, head, manifest, output, field, value):
        manifest.change(field, value)
        assert f"invalid manifest ({field}: " in self.refused(storage, head, output)

    @pytest.mark.parametrize(
        ("field", "value"),
        [("pipeline", "../other"), ("stage", "../../x"), ("seed", 43), ("pipeline", "/etc"), ("identity", "0" * 64)],
    )
    def test_manifest_of_another_artifact_is_refused(self, storage, head, manifest, output, field, value):
        manifest.change(field, value)
        assert "the manifest of" in self.refused(storage, head, output)

    def test_any_flipped_bit_is_detected(self, storage, head, manifest, tmp_path):
        """Also in a metric or a setting, where the result is still a valid manifest."""
        data, bits, key = manifest.read(), random.Random(3), f"{head.key}/manifest.json"
        here = tmp_path / "here"
        for place in range(len(data)):
            flipped = data[:place] + bytes([data[place] ^ 1 << bits.randrange(8)]) + data[place + 1 :]
            path = here / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(flipped)
            with pytest.raises(
                CorruptArtifact, match=r"/manifest\.json: (invalid manifest|this is the manifest|its content)"
            ):
                read_manifest(LocalStorage(here), key)

    def test_manifest_without_sha256_is_refused(self, storage, head, manifest, output):
        fields = json.loads(manifest.read())
        del fields["sha256"]
        manifest.write(json.dumps(fields).encode())
        assert "its own sha256" in self.refused(storage, head, output)

    def test_identity_with_the_same_prefix_is_refused(self, storage, head, manifest):
        other = head.identity[:12] + "0" * 52
        manifest.change("identity", other)
        with pytest.raises(CorruptArtifact, match=f"belongs to identity {other}, not {head.identity}"):
            artifacts.find_manifest(storage, head)

    @pytest.mark.parametrize(
        "path",
        [
            *("../x", "/etc/passwd", "model/../../x", "model/..", "..", ".", "", "./x", "model/./x"),
            *("model//etc/passwd", "//x", "model/", "a\\b", "a\0b"),
        ],
    )
    def test_paths_outside_the_artifact_are_refused(self, storage, head, manifest, output, path):
        data = json.loads(manifest.read())
        data["files"][1]["path"] = path
        manifest.write(json.dumps(data).encode())
        assert "outside the artifact" in self.refused(storage, head, output)

    @pytest.mark.parametrize(("field", "value"), [("size", -1), ("size", "3"), ("sha256", "x"), ("sha256", None)])
    def test_invalid_file_entries_are_refused(self, storage, head, manifest, output, field, value):
        data = json.loads(manifest.read())
        data["files"][0][field] = value
        manifest.write(json.dumps(data).encode())
        assert f"invalid manifest (files.0.{field}: " in self.refused(storage, head, output)

    def test_store_may_be_moved(self, storage, head, manifest, tmp_path):
        moved = LocalStorage(tmp_path / "moved")
        for key in list_keys(storage):
            storage.get(key, tmp_path / "moved" / key)
        manifest = artifacts.require_manifest(moved, head)
        assert read_files(artifacts.fetch(moved, manifest, tmp_path / "work")) == FILES


class TestFaults:
    @pytest.mark.parametrize("fault", [cut_response, truncate_response, corrupt_response], ids=["cut", "short", "bit"])
    def test_manifest_damaged_in_transit_is_read_again(self, proxied, proxy, head, output, fault):
        manifest = publish(proxied, head, output)
        proxy.fault = times(2, fault, has_method("GET", "manifest.json"))
        assert artifacts.require_manifest(proxied, head) == manifest
        proxy.fault = times(3, corrupt_response, has_method("GET", "manifest.json"))
        with pytest.raises(CorruptArtifact, match=r"/manifest\.json: "):
            artifacts.require_manifest(proxied, head)


def test_exit_codes():
    assert CorruptArtifact("x").exit_code == FtjobsError("x").exit_code == 1
    assert InputsNotPublished("x").exit_code == 75
    assert UserError("x").exit_code == 2
