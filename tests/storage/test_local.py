from __future__ import annotations

from pathlib import Path

import pytest

from ftjobs.errors import FtjobsError, UserError
from ftjobs.storage import LocalStorage
from tests.helpers.storage import list_sizes, put_bytes


@pytest.fixture
def storage(local: LocalStorage) -> LocalStorage:
    return local


class TestLayout:
    def test_uri_and_local_path_are_below_the_root(self, storage):
        assert storage.uri("a/b") == f"{storage.root}/a/b"
        assert storage.local_path("a/b") == storage.root / "a/b"

    def test_list_and_check_writable_create_no_folder(self, storage):
        assert list_sizes(storage) == []
        storage.check_writable()
        assert not storage.root.exists()

    def test_writes_leave_no_temporary_files(self, storage, tmp_path):
        put_bytes(storage, "a", b"1", tmp_path)
        storage.put_if_absent(b"2", "b")
        storage.put_if_absent(b"3", "b")
        with pytest.raises(KeyError):
            storage.put(tmp_path / "no such file", "c")
        assert sorted(path.name for path in storage.root.iterdir()) == ["a", "b"]

    def test_list_omits_incomplete_writes(self, storage, tmp_path):
        put_bytes(storage, "a", b"1", tmp_path)
        (storage.root / ".writing-0123").write_bytes(b"half")
        assert list_sizes(storage) == [("a", 1)]

    def test_list_omits_objects_deleted_meanwhile(self, storage, tmp_path):
        for key in ("a", "b", "c"):
            put_bytes(storage, key, b"1", tmp_path)
        listing = storage.list("")
        assert next(listing).key == "a"
        storage.delete("b")
        assert [entry.key for entry in listing] == ["c"]


class TestSystemErrors:
    def test_folder_in_place_of_an_object(self, storage):
        (storage.root / "a").mkdir(parents=True)
        with pytest.raises(FtjobsError, match="/store/a: Is a directory"):
            storage.read("a")
        with pytest.raises(FtjobsError):
            storage.delete("a")

    def test_file_in_place_of_a_folder(self, storage, tmp_path):
        put_bytes(storage, "a", b"1", tmp_path)
        with pytest.raises(FtjobsError, match="/store/a"):
            storage.put_if_absent(b"2", "a/b")
        with pytest.raises(FtjobsError, match="/store/a/b: Not a directory"):
            storage.read("a/b")

    def test_missing_permission_is_a_user_error(self, storage, monkeypatch):
        def refuse(path: Path, **_: object) -> None:
            raise PermissionError(13, "Permission denied", str(path))  # raised here: root may write to any folder

        monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(UserError) as caught:
            storage.put_if_absent(b"1", "a/b")
        assert str(caught.value).startswith(f"{storage.root}/a: no permission; ")

    def test_full_disk_is_worth_a_retry(self, storage, monkeypatch):
        def full(path: Path, data: bytes) -> None:
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(FtjobsError, match="No space left on device") as caught:
            storage.put_if_absent(b"1", "a")
        assert caught.value.exit_code == 1
        assert list(storage.root.iterdir()) == []
