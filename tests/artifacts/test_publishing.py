from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Lock, Timer

import pytest

from ftjobs import artifacts
from ftjobs.artifacts import Manifest
from ftjobs.errors import CorruptArtifact, InputsNotPublished
from ftjobs.plan import StageRun
from ftjobs.storage import Storage, open_storage, s3_client
from tests.fakes.fault_proxy import Request, Response, times
from tests.fakes.s3_faults import (
    has_method,
    ignore_conditions,
    lose_response,
)
from tests.fakes.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY
from tests.helpers.artifacts import FILES, publish
from tests.helpers.storage import list_keys, read_files, write_files


class TestPublishing:
    def test_published_artifact_is_found(self, storage, head, output):
        manifest = publish(storage, head, output)
        assert artifacts.find_manifest(storage, head) == manifest == artifacts.require_manifest(storage, head)
        assert {file.path: file.size for file in manifest.files} == {path: len(data) for path, data in FILES.items()}
        assert manifest.size == sum(map(len, FILES.values()))

    def test_manifest_has_provenance(self, storage, head, output):
        manifest = publish(storage, head, output)
        assert (manifest.pipeline, manifest.stage, manifest.kind, manifest.seed) == ("small", "head", "classify", 42)
        assert manifest.identity == head.identity
        assert manifest.inputs == {role: read.identity for role, read in head.inputs.items()}
        assert manifest.settings == head.settings.model_dump()
        assert manifest.metrics == {"accuracy": 0.5}
        assert manifest.environment == {"python": "3"}

    def test_layout_in_storage(self, storage, head, output):
        manifest = publish(storage, head, output)
        assert manifest.key == head.key == f"small/head/seed-42/{head.identity[:12]}"
        assert list_keys(storage) == sorted(
            [f"{head.key}/manifest.json", *(f"{head.key}/attempts/{manifest.attempt}/{path}" for path in FILES)]
        )

    def test_metrics_that_are_not_finite_become_null(self, storage, head, output):
        manifest = artifacts.publish(storage, head, output, {"loss": float("nan"), "best": [float("inf")]}, {})
        assert manifest.metrics == {"loss": None, "best": [None]}

    def test_first_of_two_attempts_wins(self, storage, head, output, tmp_path):
        first = publish(storage, head, output)
        second = publish(storage, head, write_files(tmp_path / "late", {"metrics.json": b"{}"}))
        assert second == first
        assert len(list(storage.list(""))) == len(FILES) + 1  # the files of the late attempt are deleted

    def test_one_of_eight_concurrent_attempts_wins(self, storage, head, tmp_path):
        outputs = [write_files(tmp_path / str(n), FILES | {"metrics.json": str(n).encode()}) for n in range(8)]
        start = Barrier(8)

        def publish_at_once(folder: Path) -> Manifest:
            start.wait()
            return publish(storage, head, folder)

        with ThreadPoolExecutor(8) as pool:
            manifests = list(pool.map(publish_at_once, outputs))
        assert all(manifest == manifests[0] for manifest in manifests)
        assert [key for key in list_keys(storage) if key.endswith("manifest.json")] == [f"{head.key}/manifest.json"]
        fetched = read_files(artifacts.fetch(storage, manifests[0], tmp_path / "work"))
        assert fetched in [read_files(folder) for folder in outputs]
        assert len(list(storage.list(""))) == len(FILES) + 1

    @pytest.mark.parametrize("after", range(len(FILES) + 1))
    def test_interrupted_publish_is_invisible(self, storage, head, output, tmp_path, monkeypatch, after):
        put, done, lock = type(storage).put, 0, Lock()

        def put_some(self: Storage, path: Path, key: str, *rest: object) -> str:
            nonlocal done
            with lock:
                if done == after:
                    raise KeyboardInterrupt
                digest = put(self, path, key)
                done += 1
                return digest

        def no_more(self: Storage, data: bytes, key: str) -> bool:
            raise KeyboardInterrupt

        with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
            broken.setattr(type(storage), "put", put_some)
            broken.setattr(type(storage), "put_if_absent", no_more)
            publish(storage, head, output)
        assert len(list_keys(storage)) == after
        assert artifacts.find_manifest(storage, head) is None
        assert list(artifacts.list_manifests(storage)) == []
        with pytest.raises(InputsNotPublished):
            artifacts.require_manifest(storage, head)
        manifest = publish(storage, head, output)
        assert read_files(artifacts.fetch(storage, manifest, tmp_path / "work")) == FILES

    def test_file_truncated_by_the_store_is_not_published(self, storage, head, output, monkeypatch):
        put = type(storage).put

        def cut(self: Storage, path: Path, key: str, *rest: object) -> str:
            path.write_bytes(path.read_bytes()[:-1])
            return put(self, path, key)

        monkeypatch.setattr(type(storage), "put", cut)
        with pytest.raises(CorruptArtifact, match="file is incomplete"):
            publish(storage, head, output)
        assert artifacts.find_manifest(storage, head) is None


@pytest.mark.parametrize("rounds", [10, pytest.param(50, marks=pytest.mark.slow)])
class TestEightPublishers:
    """Each publisher has its own Storage, as in eight pods."""

    def race(self, store: str, run: StageRun, folder: Path, rounds: int) -> None:
        outputs = [write_files(folder / str(number), {"model/x": b"x" * number}) for number in range(8)]
        stores = [open_storage(store) for _ in outputs]
        for round_ in range(rounds):
            round_run = replace(run, identity=f"{round_:012d}" + run.identity[12:])
            start = Barrier(8)

            def publish_at_once(number: int, run: StageRun = round_run, start: Barrier = start) -> Manifest:
                start.wait()
                return publish(stores[number], run, outputs[number])

            with ThreadPoolExecutor(8) as pool:
                returned = list(pool.map(publish_at_once, range(8)))
            final = artifacts.require_manifest(stores[0], round_run)
            assert final in returned
            assert [key for key in list_keys(stores[0]) if key == f"{round_run.key}/manifest.json"] == [
                f"{round_run.key}/manifest.json"
            ]
            assert artifacts.verify(stores[0], round_run.key) == []
            fetched = read_files(artifacts.fetch(stores[0], final, folder / f"work-{round_}"))
            assert fetched in [read_files(output) for output in outputs]

    def test_in_a_local_store(self, head, tmp_path, rounds):
        self.race(str(tmp_path / "store"), head, tmp_path, rounds)

    def test_on_a_server_with_conditional_puts(self, s3, head, tmp_path, rounds):
        self.race(f"s3://{BUCKET}/{tmp_path.name}", head, tmp_path, rounds)

    def test_on_a_server_that_ignores_conditions(self, proxy, head, tmp_path, rounds):
        proxy.fault = ignore_conditions
        self.race(f"s3://{BUCKET}/{tmp_path.name}", head, tmp_path, rounds)


class TestFaults:
    @pytest.mark.parametrize("fault", [lose_response, ignore_conditions], ids=["answer lost", "condition ignored"])
    def test_own_manifest_is_recognized_after_a_lost_response(self, proxied, proxy, head, output, tmp_path, fault):
        """The first request writes the manifest, its response is lost, and the second finds a manifest."""
        proxy.fault = times(1, fault, has_method("PUT", "manifest"))
        manifest = publish(proxied, head, output)
        assert read_files(artifacts.fetch(proxied, manifest, tmp_path / "work")) == FILES
        assert artifacts.verify(proxied, head.key) == []

    def test_commit_survives_an_outage(self, proxied, proxy, head, output, monkeypatch):
        monkeypatch.setattr(s3_client, "MAX_BACKOFF", 0.2)

        def go_down(request: Request, forward: Callable[[Request], Response]) -> None:
            proxy.down()
            Timer(0.5, proxy.up).start()

        proxy.fault = times(1, go_down, has_method("PUT", "manifest"))
        publish(proxied, head, output)
        assert artifacts.verify(proxied, head.key) == []


def test_credentials_are_neither_logged_nor_stored(s3, head, output, tmp_path):
    """Neither at the most verbose log level nor in any stored object."""
    script = (
        "import sys; from pathlib import Path; from ftjobs.storage import open_storage, s3_client\n"
        "from ftjobs.system.progress import log_to_stderr; from tests.helpers.artifacts import publish; import pickle\n"
        "log_to_stderr(verbose=True); s3_client.RETRY_SECONDS = 0.2\n"
        "run = pickle.loads(bytes.fromhex(sys.argv[2]))\n"
        "publish(open_storage(sys.argv[1]), run, Path(sys.argv[3]))\n"
        "open_storage('s3://no-such-bucket/p').check_writable()"
    )
    run = pickle.dumps(head).hex()
    command = [sys.executable, "-c", script, f"s3://{BUCKET}/{tmp_path.name}", run, str(output)]
    process = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert "no such bucket" in process.stderr
    proxied = open_storage(f"s3://{BUCKET}/{tmp_path.name}")
    everything = (
        process.stdout + process.stderr + "".join(proxied.read(key).decode("latin-1") for key in list_keys(proxied))
    )
    assert len(list_keys(proxied)) == len(FILES) + 1
    assert not re.search(f"{re.escape(SECRET_KEY)}|{re.escape(ACCESS_KEY)}", everything)
