import hashlib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Event

import pytest

from ftjobs.errors import FtjobsError, UserError
from ftjobs.storage import LocalStorage, Storage, in_parallel, open_storage
from tests.fakes.s3_server import BUCKET


@pytest.fixture
def local(tmp_path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")


@pytest.fixture(params=["local", "s3"])
def storage(request, tmp_path) -> Storage:
    if request.param == "local":
        return request.getfixturevalue("local")
    request.getfixturevalue("s3")
    return open_storage(f"s3://{BUCKET}/{tmp_path.name}")


def put(storage: Storage, key: str, content: bytes, folder: Path) -> str:
    path = folder / "to-put"
    path.write_bytes(content)
    return storage.put(path, key)


def listed(storage: Storage, prefix: str) -> list[tuple[str, int]]:
    return [(entry.key, entry.size) for entry in storage.list(prefix)]


class TestVerbs:
    def test_what_was_put_is_read(self, storage, tmp_path):
        put(storage, "a/b/c.txt", b"\0 bytes \xff", tmp_path)
        assert storage.read("a/b/c.txt") == b"\0 bytes \xff"
        storage.get("a/b/c.txt", tmp_path / "new" / "folder" / "c.txt")
        assert (tmp_path / "new/folder/c.txt").read_bytes() == b"\0 bytes \xff"

    def test_put_replaces(self, storage, tmp_path):
        put(storage, "a", b"1", tmp_path)
        put(storage, "a", b"22", tmp_path)
        assert storage.read("a") == b"22"

    def test_put_if_absent_does_not(self, storage):
        assert storage.put_if_absent(b"1", "a/b") is True
        assert storage.put_if_absent(b"2", "a/b") is False
        assert storage.read("a/b") == b"1"

    def test_list_is_sorted_and_has_sizes(self, storage, tmp_path):
        for key, content in [("p/b", b"22"), ("p/a/x", b"1"), ("p/c", b""), ("q", b"4444"), ("pp/a", b"1")]:
            put(storage, key, content, tmp_path)
        assert listed(storage, "p") == [("p/a/x", 1), ("p/b", 2), ("p/c", 0)]
        assert [key for key, _ in listed(storage, "")] == ["p/a/x", "p/b", "p/c", "pp/a", "q"]
        assert listed(storage, "nothing") == []

    def test_names_of_every_kind(self, storage, tmp_path):
        names = ["a b+c/ü%41", "a-b", "a.z/1", "a/x", "A", "a/y~$&'()=@,;:!", "a/日本語.txt", "a/%2F"]
        for number, name in enumerate(names):
            put(storage, f"folder/{name}", bytes(number), tmp_path)
        assert listed(storage, "folder") == sorted((f"folder/{name}", number) for number, name in enumerate(names))
        for number, name in enumerate(names):
            assert storage.read(f"folder/{name}") == bytes(number)

    def test_list_says_when(self, storage, tmp_path):
        put(storage, "a/b", b"1", tmp_path)
        (entry,) = storage.list("a")
        assert abs(datetime.now(UTC) - entry.modified) < timedelta(seconds=60)

    def test_list_of_a_store_that_is_not_there_yet(self, storage):
        assert listed(storage, "") == []

    def test_the_sha256_is_that_of_the_bytes(self, storage, tmp_path):
        content = bytes(range(256)) * 5000
        moved: list[int] = []
        assert put(storage, "a", content, tmp_path) == hashlib.sha256(content).hexdigest()
        assert storage.get("a", tmp_path / "a", moved.append) == hashlib.sha256(content).hexdigest()
        assert sum(moved) == len(content)

    def test_whether_it_can_be_written_leaves_nothing(self, storage, tmp_path):
        put(storage, ".ftjobs-check", b"", tmp_path)  # by a process that was killed in the middle of it
        storage.check_writable()
        assert listed(storage, "") == []

    def test_delete(self, storage, tmp_path):
        put(storage, "a/b", b"1", tmp_path)
        storage.delete("a/b")
        storage.delete("a/b")
        storage.delete("never/was")
        assert listed(storage, "") == []

    def test_a_missing_key(self, storage, tmp_path):
        with pytest.raises(KeyError):
            storage.read("a/b")
        with pytest.raises(KeyError):
            storage.get("a/b", tmp_path / "b")
        assert list(tmp_path.iterdir()) == []


class TestFolder:
    @pytest.fixture
    def storage(self, local) -> LocalStorage:
        return local

    def test_addresses(self, storage):
        assert storage.uri("a/b") == f"{storage.root}/a/b"
        assert storage.local_path("a/b") == storage.root / "a/b"

    def test_looking_makes_nothing(self, storage):
        assert listed(storage, "") == []
        storage.check_writable()
        assert not storage.root.exists()

    def test_nothing_but_objects_is_left(self, storage, tmp_path):
        put(storage, "a", b"1", tmp_path)
        storage.put_if_absent(b"2", "b")
        storage.put_if_absent(b"3", "b")
        with pytest.raises(KeyError):
            storage.put(tmp_path / "no such file", "c")
        assert sorted(path.name for path in storage.root.iterdir()) == ["a", "b"]

    def test_what_is_being_written_is_not_listed(self, storage, tmp_path):
        put(storage, "a", b"1", tmp_path)
        (storage.root / ".writing-0123").write_bytes(b"half")
        assert listed(storage, "") == [("a", 1)]

    def test_what_vanishes_while_listing_is_left_out(self, storage, tmp_path):
        for key in ("a", "b", "c"):
            put(storage, key, b"1", tmp_path)
        listing = storage.list("")
        assert next(listing).key == "a"
        storage.delete("b")
        assert [entry.key for entry in listing] == ["c"]


class TestRaces:
    def test_of_many_threads_one_wins(self, storage):
        far = not isinstance(storage, LocalStorage)
        writers, rounds = (8, 2) if far else (16, 20)  # a server takes a while to settle a race
        for round_ in range(rounds):
            key, start = f"round-{round_}/manifest", Barrier(writers)

            def write(number: int, key: str = key, start: Barrier = start) -> bool:
                start.wait()
                return storage.put_if_absent(bytes([number]) * 10_000, key)

            with ThreadPoolExecutor(writers) as pool:
                won = list(pool.map(write, range(writers)))
            assert won.count(True) == 1
            assert storage.read(key) == bytes([won.index(True)]) * 10_000
        assert len(listed(storage, "")) == rounds
        if not far:
            assert len(list(storage.root.rglob("*"))) == 2 * 20  # folders and objects, nothing temporary

    def test_of_many_processes_one_wins(self, local):
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

    def test_a_reader_never_sees_half_an_object(self, storage, tmp_path):
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
            while not all(one.done() for one in writing):
                assert storage.read("a") in contents
            for one in writing:
                one.result()


class TestOpening:
    def test_a_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert open_storage("runs").uri("a") == "runs/a"
        assert open_storage("~/runs").uri("a") == f"{tmp_path}/runs/a"

    @pytest.mark.parametrize("store", ["gs://bucket", "file:///x", "https://host/x", "", "a\0b", "~nobody-here/x"])
    def test_another_address(self, store):
        with pytest.raises(UserError, match=r"^--store .* a (path|folder) such as \./runs$"):
            open_storage(store)

    @pytest.mark.parametrize("below", ["", "/x", "/x/y"])
    def test_a_file(self, tmp_path, below):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="is a file; give a folder such as"):
            open_storage(f"{tmp_path}/file{below}")


class TestSeveralAtATime:
    def test_in_order(self, local):
        assert in_parallel(local, lambda number: number * 2, range(100)) == list(range(0, 200, 2))

    def test_nothing_starts_after_an_error(self, local):
        started = []

        def work(number: int) -> None:
            started.append(number)
            raise FtjobsError("full")

        with pytest.raises(FtjobsError, match="full"):
            in_parallel(local, work, range(1000))
        assert len(started) < 1000

    def test_it_does_not_wait_when_the_process_is_to_end(self, local):
        release = Event()

        def work(number: int) -> None:
            if number == 0:
                raise KeyboardInterrupt
            release.wait(20)

        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            in_parallel(local, work, range(20))
        assert time.monotonic() - started < 10
        release.set()


class TestWhatTheSystemRefuses:
    @pytest.fixture
    def storage(self, local) -> LocalStorage:
        return local

    def test_a_folder_in_the_place_of_an_object(self, storage):
        (storage.root / "a").mkdir(parents=True)
        with pytest.raises(FtjobsError, match="/store/a: Is a directory"):
            storage.read("a")
        with pytest.raises(FtjobsError):
            storage.delete("a")

    def test_a_file_in_the_place_of_a_folder(self, storage, tmp_path):
        put(storage, "a", b"1", tmp_path)
        with pytest.raises(FtjobsError, match="/store/a"):
            storage.put_if_absent(b"2", "a/b")
        with pytest.raises(FtjobsError, match="/store/a/b: Not a directory"):
            storage.read("a/b")

    def test_a_store_that_may_not_be_written(self, storage, monkeypatch):
        def refuse(path: Path, **_: object) -> None:
            raise PermissionError(13, "Permission denied", str(path))  # as root, no folder refuses

        monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(UserError) as caught:
            storage.put_if_absent(b"1", "a/b")
        assert str(caught.value) == f"{storage.root}/a: no permission; choose a folder that you may use"

    def test_a_full_disk_may_be_retried(self, storage, monkeypatch):
        def full(path: Path, data: bytes) -> None:
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(FtjobsError, match="No space left on device") as caught:
            storage.put_if_absent(b"1", "a")
        assert caught.value.exit_code == 1
        assert list(storage.root.iterdir()) == []
