from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ftjobs.doctor import store
from ftjobs.storage import LocalStorage
from tests.fakes.s3_server import BUCKET, S3Server


def states(address: Any) -> dict[str, str]:
    return {finding.about: finding.state for finding in store.check(str(address))}


def test_a_folder_is_left_as_it_was(tmp_path: Path) -> None:
    for there_before in (False, True):
        if there_before:
            (tmp_path / "store").mkdir()
        assert states(tmp_path / "store") == {"store": "ok", "publishing": "ok", "store's disk": "ok"}
        assert list(tmp_path.rglob("*")) == ([tmp_path / "store"] if there_before else [])


def test_object_storage_is_left_as_it_was(s3: S3Server, tmp_path: Path) -> None:
    address = f"s3://{BUCKET}/{tmp_path.name}"
    assert states(address) == {"store": "ok", "publishing": "ok"}
    assert list(store.open_storage(address).list("")) == []


def test_what_may_not_be_used_is_a_problem_and_says_why(s3: S3Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for address in (tmp_path / "file", "s3://no-such-bucket/x", "gs://bucket"):
        (finding,) = store.check(str(address))
        assert (finding.about, finding.state) == ("store", "problem")
        assert str(address).split("/x")[0] in finding.remedy


@pytest.mark.parametrize(
    ("verb", "change", "about", "state"),
    [
        ("get", lambda real: lambda *given: real(*given) + "x", "store", "problem"),
        ("list", lambda real: lambda *_: iter(()), "store", "problem"),
        ("put_if_absent", lambda real: lambda *_: True, "publishing", "problem"),
        (
            "list",
            lambda real: (
                lambda *given: (one._replace(modified=one.modified - timedelta(seconds=60)) for one in real(*given))
            ),
            "clock",
            "warning",
        ),
    ],
)
def test_what_a_store_does_wrong(
    verb: str,
    change: Callable[[Any], Any],
    about: str,
    state: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage = LocalStorage(tmp_path / "store")
    monkeypatch.setattr(storage, verb, change(getattr(storage, verb)))
    monkeypatch.setattr(store, "open_storage", lambda _: storage)
    if verb == "put_if_absent":  # as one that ignores the condition would
        monkeypatch.setattr(storage, "read", lambda _: b"second")
    assert states("any")[about] == state
