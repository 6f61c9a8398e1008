from __future__ import annotations

from datetime import timedelta

import pytest

from ftjobs import artifacts
from ftjobs.storage import open_storage
from tests.fakes.fault_proxy import times
from tests.fakes.s3_faults import (
    respond,
)
from tests.fakes.s3_server import BUCKET
from tests.helpers.artifacts import FILES, publish
from tests.helpers.storage import list_keys, put_bytes, write_files


class TestGc:
    OLD = timedelta(seconds=-60)  # everything counts as old, also if the clocks of server and test differ

    def test_attempts_without_manifest_are_garbage(self, storage, head, runs, output, tmp_path):
        published = publish(storage, head, output)
        put_bytes(storage, f"{head.key}/attempts/0123/model/x", b"1", tmp_path)
        other = runs[1]
        put_bytes(storage, f"{other.key}/attempts/4567/model/x", b"22", tmp_path)
        all_garbage = list(artifacts.find_garbage(storage, self.OLD))
        assert {garbage.key: (garbage.kind, garbage.size) for garbage in all_garbage} == {
            f"{head.key}/attempts/0123": ("attempt", 1),
            f"{other.key}/attempts/4567": ("attempt", 2),
        }
        assert list(artifacts.find_garbage(storage, timedelta(hours=24))) == []
        assert list(artifacts.find_garbage(storage, self.OLD, "other")) == []
        assert all(artifacts.remove_garbage(storage, garbage) for garbage in all_garbage)
        assert len(list_keys(storage)) == len(FILES) + 1
        assert artifacts.verify(storage, published.key) == []

    def test_training_state_is_garbage_once_published(self, storage, head, runs, output, tmp_path):
        publish(storage, head, output)
        for run in (head, runs[1]):
            put_bytes(storage, f"{run.key}/state/000000000010-0123/model.pt", b"1", tmp_path)
        (garbage,) = artifacts.find_garbage(storage, self.OLD)
        assert garbage.kind == "training state"
        assert artifacts.remove_garbage(storage, garbage)
        assert list_keys(storage).count(f"{runs[1].key}/state/000000000010-0123/model.pt") == 1

    def test_heartbeats_are_garbage_once_published(self, storage, head, runs, output, tmp_path):
        publish(storage, head, output)
        for run in (head, runs[1]):
            for name in ("running.json", "running-1.json"):
                put_bytes(storage, f"{run.key}/{name}", b"{}", tmp_path)
        all_garbage = list(artifacts.find_garbage(storage, self.OLD))
        assert {(garbage.kind, garbage.key, garbage.size) for garbage in all_garbage} == {
            ("heartbeat", f"{head.key}/{name}", 2) for name in ("running.json", "running-1.json")
        }
        assert all(artifacts.remove_garbage(storage, garbage) for garbage in all_garbage)
        assert {f"{runs[1].key}/{name}" for name in ("running.json", "running-1.json")} <= set(list_keys(storage))
        assert f"{head.key}/manifest.json" in list_keys(storage)

    def test_attempt_published_since_is_kept(self, storage, head, output):
        manifest = publish(storage, head, output)
        text = storage.read(f"{head.key}/manifest.json")
        storage.delete(f"{head.key}/manifest.json")
        (garbage,) = artifacts.find_garbage(storage, self.OLD)
        assert storage.put_if_absent(text, f"{head.key}/manifest.json")
        assert not artifacts.remove_garbage(storage, garbage)
        assert artifacts.verify(storage, manifest.key) == []

    def test_incomplete_multipart_uploads_are_garbage(self, s3, tmp_path):
        client, prefix = s3.client(), tmp_path.name
        for folder in (f"{prefix}/small", f"{prefix}/small-er", f"{prefix}-2/small"):
            upload = client.create_multipart_upload(Bucket=BUCKET, Key=f"{folder}/a")["UploadId"]
            part = {"Bucket": BUCKET, "Key": f"{folder}/a", "UploadId": upload}
            client.upload_part(**part, PartNumber=1, Body=b"x" * (5 << 20))
        remote = open_storage(f"s3://{BUCKET}/{prefix}")
        assert {garbage.key for garbage in artifacts.find_garbage(remote, self.OLD)} == {"small/a", "small-er/a"}
        assert list(artifacts.find_garbage(remote, timedelta(hours=24))) == []
        (garbage,) = artifacts.find_garbage(remote, self.OLD, "small")
        assert (garbage.kind, garbage.key, garbage.size) == ("incomplete upload", "small/a", None)
        assert artifacts.remove_garbage(remote, garbage)
        assert artifacts.remove_garbage(remote, garbage)  # aborted before
        assert [garbage.key for garbage in artifacts.find_garbage(remote, self.OLD)] == ["small-er/a"]
        sibling = open_storage(f"s3://{BUCKET}/{prefix}-2")
        assert [garbage.key for garbage in artifacts.find_garbage(sibling, self.OLD)] == ["small/a"]

    def test_incomplete_local_writes_are_garbage(self, tmp_path):
        local = open_storage(str(tmp_path / "store"))
        left = write_files(tmp_path / "store", {"small/head/.writing-0123": b"half"}) / "small/head/.writing-0123"
        assert list(artifacts.find_garbage(local, timedelta(hours=24))) == []
        (garbage,) = artifacts.find_garbage(local, self.OLD, "small")
        assert (garbage.kind, garbage.size) == ("incomplete upload", 4)
        assert artifacts.remove_garbage(local, garbage)
        assert not left.exists()

    @pytest.mark.parametrize(
        ("status", "code"), [(501, "NotImplemented"), (405, "MethodNotAllowed"), (403, "AccessDenied")]
    )
    def test_stores_without_upload_listing_are_supported(self, proxied, proxy, head, output, status, code):
        publish(proxied, head, output)
        proxy.fault = times(100, respond(status, code), lambda request: "?uploads" in request.path)
        assert list(artifacts.find_garbage(proxied, self.OLD)) == []
        assert proxy.count("GET", "?uploads") == 1

    def test_attempts_with_an_unreadable_manifest_are_kept(self, storage, head, output, tmp_path):
        publish(storage, head, output)
        put_bytes(storage, f"{head.key}/manifest.json", b"{", tmp_path)
        assert list(artifacts.find_garbage(storage, self.OLD)) == []
