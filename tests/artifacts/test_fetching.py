from __future__ import annotations

import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from ftjobs import artifacts
from ftjobs.errors import CorruptArtifact, FtjobsError, UserError
from ftjobs.storage import LocalStorage, s3_client
from tests.fakes.fault_proxy import times
from tests.fakes.s3_faults import (
    corrupt_response,
    cut_response,
    has_method,
    truncate_response,
)
from tests.helpers.artifacts import FILES, MODEL_FILES, RemoteStorage, publish
from tests.helpers.storage import read_files, write_files


def test_files_of_an_artifact_are_transferred_in_parallel(head, tmp_path, monkeypatch):
    """Every transfer waits until four are in progress."""
    four = Barrier(4)
    output = write_files(tmp_path / "output", {f"model/{number}": b"x" for number in range(8)})
    proxied = RemoteStorage(tmp_path / "store")
    for verb in ("put", "get"):
        moved = getattr(LocalStorage, verb)
        with monkeypatch.context() as patched:
            patched.setattr(
                RemoteStorage,
                verb,
                lambda *arguments, moved=moved: (four.wait(timeout=20), moved(*arguments))[1],
                raising=False,
            )
            if verb == "put":
                manifest = publish(proxied, head, output)
            else:
                artifacts.pull(proxied, manifest, tmp_path / "pulled")
    assert len(read_files(tmp_path / "pulled")) == 8


class TestPull:
    def test_pull_puts_the_checkpoint_at_the_top(self, storage, head, output, tmp_path):
        artifacts.pull(storage, publish(storage, head, output), tmp_path / "new" / "model")
        assert read_files(tmp_path / "new" / "model") == MODEL_FILES
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]

    def test_pull_everything_copies_all_files(self, storage, head, output, tmp_path):
        artifacts.pull(storage, publish(storage, head, output), tmp_path / "all", everything=True)
        assert read_files(tmp_path / "all") == FILES

    def test_pull_copies_all_files_of_an_artifact_without_a_model(self, storage, runs, tmp_path):
        files = {"report.md": b"# small\n", "models/x": b""}
        artifacts.pull(storage, publish(storage, runs[-1], write_files(tmp_path / "out", files)), tmp_path / "report")
        assert read_files(tmp_path / "report") == files

    @pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
    def test_pull_refuses_an_existing_destination(self, storage, head, output, tmp_path, kind):
        manifest, there = publish(storage, head, output), tmp_path / "there"
        {"file": there.touch, "folder": there.mkdir, "dangling link": lambda: there.symlink_to("nowhere")}[kind]()
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(UserError, match="/there: already exists"):
            artifacts.pull(storage, manifest, there)
        assert sorted(tmp_path.rglob("*")) == before

    def test_pull_refuses_a_destination_below_a_file(self, storage, head, output, tmp_path):
        manifest = publish(storage, head, output)
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="/file is a file; "):
            artifacts.pull(storage, manifest, tmp_path / "file" / "model")


def test_read_text_returns_a_listed_file_only(storage, head, output):
    manifest = publish(storage, head, output)
    assert artifacts.read_text(storage, manifest, "metrics.json") == '{"accuracy": 0.5}'
    with pytest.raises(CorruptArtifact, match=r"/report\.md is not in the manifest"):
        artifacts.read_text(storage, manifest, "report.md")


class TestFaults:
    @pytest.mark.parametrize("fault", [cut_response, truncate_response, corrupt_response], ids=["cut", "short", "bit"])
    def test_file_damaged_in_transit_is_downloaded_again(self, proxied, proxy, head, output, tmp_path, fault, caplog):
        manifest = publish(proxied, head, output)
        proxy.fault = times(2, fault, has_method("GET", "model.safetensors"))
        with caplog.at_level(logging.WARNING):
            artifacts.pull(proxied, manifest, tmp_path / "pulled")
        assert read_files(tmp_path / "pulled") == MODEL_FILES
        assert "retrying" in caplog.text or "downloading it again" in caplog.text

    def test_file_that_stays_damaged_is_refused(self, proxied, proxy, head, output, tmp_path):
        manifest = publish(proxied, head, output)
        proxy.fault = times(100, corrupt_response, has_method("GET", "model.safetensors"))
        for use in (
            lambda: artifacts.pull(proxied, manifest, tmp_path / "new" / "pulled"),
            lambda: artifacts.fetch(proxied, manifest, tmp_path / "work"),
        ):
            with pytest.raises(CorruptArtifact, match=r"/model\.safetensors has another sha256"):
                use()
        assert list((tmp_path / "new").iterdir()) == []


class TestResumedPull:
    def test_completed_files_are_not_downloaded_again(self, proxied, proxy, head, output, tmp_path, monkeypatch):
        manifest = publish(proxied, head, output)
        monkeypatch.setattr(s3_client, "RETRY_SECONDS", 0.1)
        large = lambda request: "model.safetensors" in request.path  # noqa: E731
        proxy.fault = times(1000, lambda request, forward: None, large)
        with pytest.raises(FtjobsError, match="gave up"):
            artifacts.pull(proxied, manifest, tmp_path / "new" / "model")
        (temporary,) = (tmp_path / "new").iterdir()
        assert temporary.name == f".model.{head.identity[:12]}"
        (temporary / ".part-0123").write_bytes(b"left by a killed pull")
        (temporary / "deep" / "other").mkdir(parents=True)
        proxy.reset()
        artifacts.pull(proxied, manifest, tmp_path / "new" / "model")
        assert read_files(tmp_path / "new" / "model") == MODEL_FILES
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]
        got = [
            request.path.rpartition("/")[2]
            for request in proxy.requests
            if "attempts" in request.path and "?" not in request.path
        ]
        assert "model.safetensors" in got
        assert "config.json" not in got

    def test_completed_ranges_are_not_downloaded_again(self, proxied, proxy, head, tmp_path, monkeypatch):
        """Downloaded ranges are kept; ranges that were damaged on disk are detected and downloaded again."""
        weights = os.urandom(40 << 20)
        manifest = publish(proxied, head, write_files(tmp_path / "large", {"model/model.safetensors": weights}))
        ranges = lambda: {request.headers["Range"] for request in proxy.requests if "Range" in request.headers}  # noqa: E731

        def cut_short() -> Path:
            monkeypatch.setattr(s3_client, "RETRY_SECONDS", 0.1)
            proxy.fault = times(
                1000, lambda *_: None, lambda request: "bytes=17825792-" in request.headers.get("Range", "")
            )
            with pytest.raises(FtjobsError, match="gave up"):
                artifacts.pull(proxied, manifest, tmp_path / "new")
            proxy.reset()
            (part,) = (tmp_path / f".new.{head.identity[:12]}").glob(".part-*")
            return part

        cut_short()
        artifacts.pull(proxied, manifest, tmp_path / "new")
        assert read_files(tmp_path / "new") == {"model.safetensors": weights}
        assert "bytes=17825792-26214399" in ranges()
        assert not ranges() & {"bytes=1048576-9437183", "bytes=9437184-17825791"}
        shutil.rmtree(tmp_path / "new")
        part = cut_short()
        with part.open("r+b") as file:
            file.seek(5 << 20)
            file.write(b"damaged on the disk")
        artifacts.pull(proxied, manifest, tmp_path / "new")
        assert read_files(tmp_path / "new") == {"model.safetensors": weights}
        assert "bytes=1048576-9437183" in ranges()

    def test_wrong_leftovers_are_downloaded_again(self, storage, head, output, tmp_path):
        manifest = publish(storage, head, output)
        write_files(tmp_path / f".new.{head.identity[:12]}", {"config.json": b"[]", "model.safetensors": b"half"})
        artifacts.pull(storage, manifest, tmp_path / "new")
        assert read_files(tmp_path / "new") == MODEL_FILES

    def test_one_of_six_concurrent_pulls_wins(self, storage, head, output, tmp_path):
        manifest = publish(storage, head, output)
        start = Barrier(6)

        def pull(number: int) -> FtjobsError | None:
            start.wait()
            try:
                artifacts.pull(storage, manifest, tmp_path / "new")
            except FtjobsError as error:
                return error
            return None

        with ThreadPoolExecutor(6) as pool:
            errors = list(pool.map(pull, range(6)))
        assert errors.count(None) == 1
        assert all("another pull" in str(e) or "already exists" in str(e) for e in errors if e)
        assert read_files(tmp_path / "new") == MODEL_FILES
