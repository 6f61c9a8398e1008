"""Artifacts when many publish at once, the network fails, a pull is cut short, or a store is cleaned up."""

# ruff: noqa: F811 (fixtures are arguments of the same name)

from __future__ import annotations

import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier, Timer

import pytest

from ftjobs import artifacts
from ftjobs.artifacts import Manifest
from ftjobs.errors import CorruptArtifact, FtjobsError
from ftjobs.plan import StageRun
from ftjobs.storage import Storage, connection, open_storage
from tests.artifacts.test_artifacts import FILES, MODEL, content, head, keys, publish, runs, storage, store, written  # noqa: F401
from tests.fakes import fault_proxy
from tests.fakes.fault_proxy import Answer, Request, times
from tests.fakes.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY
from tests.storage.test_s3 import cut_answer, flipped, ignoring_conditions, lost_answer, proxy, truncated  # noqa: F401


@pytest.fixture
def far(proxy, tmp_path) -> Storage:
    return open_storage(f"s3://{BUCKET}/{tmp_path.name}")


@pytest.fixture
def output(tmp_path) -> Path:
    return written(tmp_path / "output", FILES)


@pytest.mark.parametrize("rounds", [10, pytest.param(50, marks=pytest.mark.slow)])
class TestEightPublishersAtOnce:
    """Each of the eight is a store of its own, as in eight pods."""

    def race(self, store: str, run: StageRun, folder: Path, rounds: int) -> None:
        outputs = [written(folder / str(number), {"model/x": b"x" * number}) for number in range(8)]
        stores = [open_storage(store) for _ in outputs]
        for round_ in range(rounds):
            this = replace(run, identity=f"{round_:012d}" + run.identity[12:])
            start = Barrier(8)

            def publish_at_once(number: int, this: StageRun = this, start: Barrier = start) -> Manifest:
                start.wait()
                return publish(stores[number], this, outputs[number])

            with ThreadPoolExecutor(8) as pool:
                returned = list(pool.map(publish_at_once, range(8)))
            final = artifacts.require(stores[0], this)
            assert final in returned
            assert [key for key in keys(stores[0]) if key == f"{this.key}/manifest.json"] == [
                f"{this.key}/manifest.json"
            ]
            assert artifacts.verify(stores[0], this.key) == []
            fetched = content(artifacts.fetch(stores[0], final, folder / f"work-{round_}"))
            assert fetched in [content(one) for one in outputs]

    def test_in_a_folder(self, head, tmp_path, rounds):
        self.race(str(tmp_path / "store"), head, tmp_path, rounds)

    def test_on_a_server_that_honours_the_condition(self, s3, head, tmp_path, rounds):
        self.race(f"s3://{BUCKET}/{tmp_path.name}", head, tmp_path, rounds)

    def test_on_a_server_that_ignores_it(self, proxy, head, tmp_path, rounds):
        proxy.fault = ignoring_conditions
        self.race(f"s3://{BUCKET}/{tmp_path.name}", head, tmp_path, rounds)


class TestFaults:
    @pytest.mark.parametrize("fault", [lost_answer, ignoring_conditions], ids=["answer lost", "condition ignored"])
    def test_ones_own_manifest_is_not_taken_for_anothers(self, far, proxy, head, output, tmp_path, fault):
        """The first try writes the manifest, its answer is lost, and the second try hears that there is one."""
        proxy.fault = times(1, fault, lambda request: request.method == "PUT" and "manifest" in request.path)
        manifest = publish(far, head, output)
        assert content(artifacts.fetch(far, manifest, tmp_path / "work")) == FILES
        assert artifacts.verify(far, head.key) == []

    @pytest.mark.parametrize(
        "fault", [cut_answer, truncated, lambda *both: one_bit(*both)], ids=["cut", "short", "bit"]
    )
    def test_what_is_damaged_on_the_way_is_fetched_again(self, far, proxy, head, output, tmp_path, fault, caplog):
        manifest = publish(far, head, output)
        proxy.fault = times(2, fault, lambda request: request.path.endswith("model.safetensors"))
        with caplog.at_level(logging.WARNING):
            artifacts.pull(far, manifest, tmp_path / "pulled")
        assert content(tmp_path / "pulled") == MODEL
        assert "again" in caplog.text

    @pytest.mark.parametrize(
        "fault", [cut_answer, truncated, lambda *both: one_bit(*both)], ids=["cut", "short", "bit"]
    )
    def test_so_is_a_manifest(self, far, proxy, head, output, fault):
        manifest = publish(far, head, output)
        proxy.fault = times(2, fault, lambda request: request.path.endswith("manifest.json"))
        assert artifacts.require(far, head) == manifest
        proxy.fault = times(3, lambda *both: one_bit(*both), lambda request: request.path.endswith("manifest.json"))
        with pytest.raises(CorruptArtifact, match=r"/manifest\.json: "):
            artifacts.require(far, head)

    def test_what_stays_damaged_is_refused(self, far, proxy, head, output, tmp_path):
        manifest = publish(far, head, output)
        proxy.fault = times(
            100, lambda *both: one_bit(*both), lambda request: request.path.endswith("model.safetensors")
        )
        for use in (
            lambda: artifacts.pull(far, manifest, tmp_path / "new" / "pulled"),
            lambda: artifacts.fetch(far, manifest, tmp_path / "work"),
        ):
            with pytest.raises(CorruptArtifact, match=r"/model\.safetensors has another sha256 than its manifest says"):
                use()
        assert list((tmp_path / "new").iterdir()) == []

    def test_a_server_that_goes_down_at_the_commit(self, far, proxy, head, output, monkeypatch):
        monkeypatch.setattr(connection, "LONGEST_WAIT", 0.2)

        def go_down(request: Request, forward: Callable[[Request], Answer]) -> None:
            proxy.down()
            Timer(0.5, proxy.up).start()

        proxy.fault = times(1, go_down, lambda request: request.method == "PUT" and "manifest" in request.path)
        publish(far, head, output)
        assert artifacts.verify(far, head.key) == []


def one_bit(request: Request, forward: Callable[[Request], Answer]) -> Answer:
    answer = forward(request)
    answer.body = flipped(answer.body)
    return answer


class TestExtraFiles:
    def test_one_that_the_manifest_does_not_name(self, storage, head, output, tmp_path):
        manifest = publish(storage, head, output)
        store(storage, f"{manifest.folder}/model/extra.bin", b"x", tmp_path)
        uri = f"{storage.uri(manifest.folder)}/model/extra.bin is not in the manifest"
        assert artifacts.verify(storage, manifest.key) == [uri]
        for use in (
            lambda: artifacts.pull(storage, manifest, tmp_path / "new" / "pulled"),
            lambda: artifacts.fetch(storage, manifest, tmp_path / "work"),
        ):
            with pytest.raises(CorruptArtifact) as caught:
                use()
            assert str(caught.value).startswith(uri)
        assert list((tmp_path / "new").iterdir()) == []


class TestPullsThatWereCutShort:
    def test_the_next_goes_on(self, far, proxy, head, output, tmp_path, monkeypatch):
        manifest = publish(far, head, output)
        monkeypatch.setattr(connection, "PATIENCE", 0.1)
        large = lambda request: "model.safetensors" in request.path  # noqa: E731
        proxy.fault = times(1000, lambda request, forward: None, large)
        with pytest.raises(FtjobsError, match="gave up"):
            artifacts.pull(far, manifest, tmp_path / "new" / "model")
        (temporary,) = (tmp_path / "new").iterdir()
        assert temporary.name == f".model.{head.identity[:12]}"
        (temporary / ".part-0123").write_bytes(b"left by a pull that was killed")
        (temporary / "deep" / "other").mkdir(parents=True)
        proxy.fault, proxy.seen = fault_proxy.none, []
        artifacts.pull(far, manifest, tmp_path / "new" / "model")
        assert content(tmp_path / "new" / "model") == MODEL
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]
        got = [
            request.path.rpartition("/")[2]
            for request in proxy.seen
            if "attempts" in request.path and "?" not in request.path
        ]
        assert "model.safetensors" in got
        assert "config.json" not in got

    def test_inside_a_large_file(self, far, proxy, head, tmp_path, monkeypatch):
        """What was fetched is not fetched again; what lies there and is wrong is noticed, and fetched again."""
        weights = os.urandom(40 << 20)
        manifest = publish(far, head, written(tmp_path / "large", {"model/model.safetensors": weights}))
        ranges = lambda: {request.headers["Range"] for request in proxy.seen if "Range" in request.headers}  # noqa: E731

        def cut_short() -> Path:
            monkeypatch.setattr(connection, "PATIENCE", 0.1)
            proxy.fault = times(
                1000, lambda *_: None, lambda request: "bytes=17825792-" in request.headers.get("Range", "")
            )
            with pytest.raises(FtjobsError, match="gave up"):
                artifacts.pull(far, manifest, tmp_path / "new")
            proxy.fault, proxy.seen = fault_proxy.none, []
            (part,) = (tmp_path / f".new.{head.identity[:12]}").glob(".part-*")
            return part

        cut_short()
        artifacts.pull(far, manifest, tmp_path / "new")
        assert content(tmp_path / "new") == {"model.safetensors": weights}
        assert "bytes=17825792-26214399" in ranges()
        assert not ranges() & {"bytes=1048576-9437183", "bytes=9437184-17825791"}
        shutil.rmtree(tmp_path / "new")
        part = cut_short()
        with part.open("r+b") as file:
            file.seek(5 << 20)
            file.write(b"damaged on the disk")
        artifacts.pull(far, manifest, tmp_path / "new")
        assert content(tmp_path / "new") == {"model.safetensors": weights}
        assert "bytes=1048576-9437183" in ranges()

    def test_what_is_there_and_wrong_is_fetched_again(self, storage, head, output, tmp_path):
        manifest = publish(storage, head, output)
        written(tmp_path / f".new.{head.identity[:12]}", {"config.json": b"[]", "model.safetensors": b"half"})
        artifacts.pull(storage, manifest, tmp_path / "new")
        assert content(tmp_path / "new") == MODEL

    def test_two_at_once(self, storage, head, output, tmp_path):
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
        assert all("another pull is filling it" in str(e) or "exists already" in str(e) for e in errors if e)
        assert content(tmp_path / "new") == MODEL


class TestGc:
    OLD = timedelta(seconds=-60)  # everything counts as old, whatever the clocks of server and test differ by

    def test_attempts_that_no_manifest_names(self, storage, head, runs, output, tmp_path):
        published = publish(storage, head, output)
        store(storage, f"{head.key}/attempts/0123/model/x", b"1", tmp_path)
        other = runs[1]
        store(storage, f"{other.key}/attempts/4567/model/x", b"22", tmp_path)
        found = list(artifacts.dead(storage, self.OLD))
        assert {one.folder: (one.what, one.size) for one in found} == {
            f"{head.key}/attempts/0123": ("attempt", 1),
            f"{other.key}/attempts/4567": ("attempt", 2),
        }
        assert list(artifacts.dead(storage, timedelta(hours=24))) == []
        assert list(artifacts.dead(storage, self.OLD, "other")) == []
        assert all(artifacts.remove(storage, one) for one in found)
        assert len(keys(storage)) == len(FILES) + 1
        assert artifacts.verify(storage, published.key) == []

    def test_training_state_of_what_is_published_only(self, storage, head, runs, output, tmp_path):
        publish(storage, head, output)
        for run in (head, runs[1]):
            store(storage, f"{run.key}/state/000000000010-0123/model.pt", b"1", tmp_path)
        (found,) = artifacts.dead(storage, self.OLD)
        assert found.what == "training state"
        assert artifacts.remove(storage, found)
        assert keys(storage).count(f"{runs[1].key}/state/000000000010-0123/model.pt") == 1

    def test_signs_of_life_of_what_is_published_only(self, storage, head, runs, output, tmp_path):
        publish(storage, head, output)
        for run in (head, runs[1]):
            for name in ("running.json", "running-1.json"):
                store(storage, f"{run.key}/{name}", b"{}", tmp_path)
        found = list(artifacts.dead(storage, self.OLD))
        assert {(one.what, one.folder, one.size) for one in found} == {
            ("sign of life", f"{head.key}/{name}", 2) for name in ("running.json", "running-1.json")
        }
        assert all(artifacts.remove(storage, one) for one in found)
        assert {f"{runs[1].key}/{name}" for name in ("running.json", "running-1.json")} <= set(keys(storage))
        assert f"{head.key}/manifest.json" in keys(storage)

    def test_what_is_published_in_the_meantime_stays(self, storage, head, output):
        manifest = publish(storage, head, output)
        text = storage.read(f"{head.key}/manifest.json")
        storage.delete(f"{head.key}/manifest.json")
        (found,) = artifacts.dead(storage, self.OLD)
        assert storage.put_if_absent(text, f"{head.key}/manifest.json")
        assert not artifacts.remove(storage, found)
        assert artifacts.verify(storage, manifest.key) == []

    def test_uploads_that_were_killed(self, s3, tmp_path):
        client, prefix = s3.client(), tmp_path.name
        for folder in (f"{prefix}/small", f"{prefix}/small-er", f"{prefix}-2/small"):
            upload = client.create_multipart_upload(Bucket=BUCKET, Key=f"{folder}/a")["UploadId"]
            part = {"Bucket": BUCKET, "Key": f"{folder}/a", "UploadId": upload}
            client.upload_part(**part, PartNumber=1, Body=b"x" * (5 << 20))
        far = open_storage(f"s3://{BUCKET}/{prefix}")
        assert {one.folder for one in artifacts.dead(far, self.OLD)} == {"small/a", "small-er/a"}
        assert list(artifacts.dead(far, timedelta(hours=24))) == []
        (found,) = artifacts.dead(far, self.OLD, "small")
        assert (found.what, found.folder, found.size) == ("unfinished upload", "small/a", None)
        assert artifacts.remove(far, found)
        assert artifacts.remove(far, found)  # gone already
        assert [one.folder for one in artifacts.dead(far, self.OLD)] == ["small-er/a"]
        elsewhere = open_storage(f"s3://{BUCKET}/{prefix}-2")
        assert [one.folder for one in artifacts.dead(elsewhere, self.OLD)] == ["small/a"]

    def test_uploads_to_a_folder_that_were_killed(self, tmp_path):
        here = open_storage(str(tmp_path / "store"))
        left = written(tmp_path / "store", {"small/head/.writing-0123": b"half"}) / "small/head/.writing-0123"
        assert list(artifacts.dead(here, timedelta(hours=24))) == []
        (found,) = artifacts.dead(here, self.OLD, "small")
        assert (found.what, found.size) == ("unfinished upload", 4)
        assert artifacts.remove(here, found)
        assert not left.exists()

    @pytest.mark.parametrize(
        ("status", "code"), [(501, "NotImplemented"), (405, "MethodNotAllowed"), (403, "AccessDenied")]
    )
    def test_stores_that_do_not_list_them(self, far, proxy, head, output, status, code):
        publish(far, head, output)
        proxy.fault = times(100, lambda *_: fault_proxy.error(status, code), lambda request: "?uploads" in request.path)
        assert list(artifacts.dead(far, self.OLD)) == []
        assert proxy.count("GET", "?uploads") == 1

    def test_nothing_goes_where_the_manifest_cannot_be_read(self, storage, head, output, tmp_path):
        publish(storage, head, output)
        store(storage, f"{head.key}/manifest.json", b"{", tmp_path)
        assert list(artifacts.dead(storage, self.OLD)) == []


def test_secrets_are_nowhere(s3, head, output, tmp_path):
    """Also at the most talkative setting of our log, and in what stands in the store."""
    script = (
        "import sys; from pathlib import Path; from ftjobs.storage import open_storage, connection\n"
        "from ftjobs import artifacts, progress; from tests.artifacts.test_artifacts import publish; import pickle\n"
        "progress.log_to_stderr(verbose=True); connection.PATIENCE = 0.2\n"
        "run = pickle.loads(bytes.fromhex(sys.argv[2]))\n"
        "publish(open_storage(sys.argv[1]), run, Path(sys.argv[3]))\n"
        "open_storage('s3://no-such-bucket/p').check_writable()"
    )
    run = pickle.dumps(head).hex()
    command = [sys.executable, "-c", script, f"s3://{BUCKET}/{tmp_path.name}", run, str(output)]
    found = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert "there is no such bucket" in found.stderr
    far = open_storage(f"s3://{BUCKET}/{tmp_path.name}")
    everything = found.stdout + found.stderr + "".join(far.read(key).decode("latin-1") for key in keys(far))
    assert len(keys(far)) == len(FILES) + 1
    assert not re.search(f"{re.escape(SECRET_KEY)}|{re.escape(ACCESS_KEY)}", everything)
