from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier, Event

import pytest

from ftjobs.errors import FtjobsError
from ftjobs.storage import LocalStorage, Storage, open_storage, parallel_map
from tests.fakes.s3_server import BUCKET
from tests.helpers.storage import list_sizes, put_bytes


@pytest.fixture(params=["local", "s3"])
def storage(request, tmp_path) -> Storage:
    if request.param == "local":
        return request.getfixturevalue("local")
    request.getfixturevalue("s3")
    return open_storage(f"s3://{BUCKET}/{tmp_path.name}")


class TestContract:
    """Both implementations of Storage behave alike."""

    def test_read_and_get_return_the_bytes_put(self, storage, tmp_path):
        put_bytes(storage, "a/b/c.txt", b"\0 bytes \xff", tmp_path)
        assert storage.read("a/b/c.txt") == b"\0 bytes \xff"
        storage.get("a/b/c.txt", tmp_path / "new" / "folder" / "c.txt")
        assert (tmp_path / "new/folder/c.txt").read_bytes() == b"\0 bytes \xff"

    def test_put_replaces_an_existing_object(self, storage, tmp_path):
        put_bytes(storage, "a", b"1", tmp_path)
        put_bytes(storage, "a", b"22", tmp_path)
        assert storage.read("a") == b"22"

    def test_put_if_absent_keeps_the_existing_object(self, storage):
        assert storage.put_if_absent(b"1", "a/b") is True
        assert storage.put_if_absent(b"2", "a/b") is False
        assert storage.read("a/b") == b"1"

    def test_list_is_sorted_and_has_sizes(self, storage, tmp_path):
        for key, content in [("p/b", b"22"), ("p/a/x", b"1"), ("p/c", b""), ("q", b"4444"), ("pp/a", b"1")]:
            put_bytes(storage, key, content, tmp_path)
        assert list_sizes(storage, "p") == [("p/a/x", 1), ("p/b", 2), ("p/c", 0)]
        assert [key for key, _ in list_sizes(storage, "")] == ["p/a/x", "p/b", "p/c", "pp/a", "q"]
        assert list_sizes(storage, "nothing") == []

    def test_keys_may_contain_any_character(self, storage, tmp_path):
        names = ["a b+c/ü%41", "a-b", "a.z/1", "a/x", "A", "a/y~$&'()=@,;:!", "a/日本語.txt", "a/%2F"]
        for number, name in enumerate(names):
            put_bytes(storage, f"folder/{name}", bytes(number), tmp_path)
        assert list_sizes(storage, "folder") == sorted((f"folder/{name}", number) for number, name in enumerate(names))
        for number, name in enumerate(names):
            assert storage.read(f"folder/{name}") == bytes(number)

    def test_list_has_modification_times(self, storage, tmp_path):
        put_bytes(storage, "a/b", b"1", tmp_path)
        (entry,) = storage.list("a")
        assert abs(datetime.now(UTC) - entry.modified) < timedelta(seconds=60)

    def test_list_of_a_new_store_is_empty(self, storage):
        assert list_sizes(storage, "") == []

    def test_put_and_get_return_the_sha256_and_report_progress(self, storage, tmp_path):
        content = bytes(range(256)) * 5000
        progress: list[int] = []
        assert put_bytes(storage, "a", content, tmp_path) == hashlib.sha256(content).hexdigest()
        assert storage.get("a", tmp_path / "a", progress.append) == hashlib.sha256(content).hexdigest()
        assert sum(progress) == len(content)

    def test_check_writable_leaves_no_object(self, storage, tmp_path):
        put_bytes(storage, ".ftjobs-check", b"", tmp_path)  # left by a process that was killed during the check
        storage.check_writable()
        assert list_sizes(storage, "") == []

    def test_delete_is_idempotent(self, storage, tmp_path):
        put_bytes(storage, "a/b", b"1", tmp_path)
        storage.delete("a/b")
        storage.delete("a/b")
        storage.delete("never/was")
        assert list_sizes(storage, "") == []

    def test_missing_key_is_a_key_error(self, storage, tmp_path):
        with pytest.raises(KeyError):
            storage.read("a/b")
        with pytest.raises(KeyError):
            storage.get("a/b", tmp_path / "b")
        assert list(tmp_path.iterdir()) == []


class TestRaces:
    def test_one_of_many_threads_wins(self, storage):
        remote = not isinstance(storage, LocalStorage)
        writers, rounds = (8, 2) if remote else (16, 20)  # a server takes longer per round
        for round_ in range(rounds):
            key, start = f"round-{round_}/manifest", Barrier(writers)

            def write(number: int, key: str = key, start: Barrier = start) -> bool:
                start.wait()
                return storage.put_if_absent(bytes([number]) * 10_000, key)

            with ThreadPoolExecutor(writers) as pool:
                won = list(pool.map(write, range(writers)))
            assert won.count(True) == 1
            assert storage.read(key) == bytes([won.index(True)]) * 10_000
        assert len(list_sizes(storage, "")) == rounds
        if not remote:
            assert len(list(storage.root.rglob("*"))) == 2 * 20  # folders and objects, no temporary files

    def test_one_of_many_processes_wins(self, local):
        keys = 50
        script = (
            "import sys; from pathlib import Path; from ftjobs.storage import LocalStorage\n"
            "store = LocalStorage(Path(sys.argv[1])); sys.stdin.readline()\n"
            f"for key in range({keys}): print(int(store.put_if_absent(sys.argv[2].encode() * 5000, str(key))))"
        )
        command = [sys.executable, "-c", script, str(local.root)]
        processes = [
            subprocess.Popen([*command, letter], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for letter in "abcd"
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        won = [process.communicate()[0].split() for process in processes]
        for key in range(keys):
            winners = [letter for letter, wins in zip("abcd", won, strict=True) if wins[key] == "1"]
            assert len(winners) == 1
            assert local.read(str(key)) == winners[0].encode() * 5000

    def test_readers_never_see_a_partial_object(self, storage, tmp_path):
        contents = {bytes([number]) * 200_000 for number in range(8)}
        (tmp_path / "first").write_bytes(b"\0" * 200_000)
        storage.put(tmp_path / "first", "a")

        def write(content: bytes) -> None:
            path = tmp_path / str(content[0])
            path.write_bytes(content)
            for _ in range(20):
                storage.put(path, "a")

        with ThreadPoolExecutor(4) as pool:
            writing = [pool.submit(write, content) for content in contents]
            while not all(future.done() for future in writing):
                assert storage.read("a") in contents
            for future in writing:
                future.result()


class TestParallelMap:
    def test_results_are_in_the_order_of_items(self, local):
        assert parallel_map(local, lambda number: number * 2, range(100)) == list(range(0, 200, 2))

    def test_starts_no_items_after_an_error(self, local):
        started = []

        def function(number: int) -> None:
            started.append(number)
            raise FtjobsError("full")

        with pytest.raises(FtjobsError, match="full"):
            parallel_map(local, function, range(1000))
        assert len(started) < 1000

    def test_does_not_wait_on_keyboard_interrupt(self, local):
        release = Event()

        def function(number: int) -> None:
            if number == 0:
                raise KeyboardInterrupt
            release.wait(20)

        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            parallel_map(local, function, range(20))
        assert time.monotonic() - started < 10
        release.set()
