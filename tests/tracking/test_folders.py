"""Run folders: what is kept of them, and the steps that the logs in them hold."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from ftjobs.tracking import folders

BLOCK = 32 * 1024


NOTHING = b":W&B\xe1\xbe\x00"  # what a log starts with, before its first record


def log_of(steps: list[int], size: int = 40) -> bytes:
    """A transaction log, as LevelDB writes one: records divided at the ends of blocks."""
    header, run = Record(), Record()
    header.header.version_info.producer = "0.31.0"
    run.run.run_id = "abc"
    records = [header, run]
    for step in steps:
        record = Record()
        record.history.item.add(nested_key=["_step"], value_json=str(step))
        record.history.item.add(nested_key=["train/loss"], value_json="1" * size)
        records.append(record)
    data = bytearray(NOTHING)
    for record in records:
        content, first = record.SerializeToString(), True
        while content or first:
            left = BLOCK - len(data) % BLOCK
            if left < 7:
                data += bytes(left)
                continue
            piece, content = content[: left - 7], content[left - 7 :]
            kind = (1 if first else 4) if not content else (2 if first else 3)
            data += bytes(4) + len(piece).to_bytes(2, "little") + bytes([kind]) + piece
            first = False
    return bytes(data)


def make(place: Path, name: str, content: bytes) -> Path:
    folder = place / name
    (folder / "files/media").mkdir(parents=True)
    (folder / "logs").mkdir()
    (folder / "run-abc.wandb").write_bytes(content)
    (folder / "files/media/plot.png").write_bytes(b"png")
    (folder / "logs/debug.log").write_text("the key is …")
    return folder


def test_steps_are_read_across_blocks_and_up_to_where_a_log_was_cut(tmp_path: Path) -> None:
    steps = list(range(0, 5000, 10))
    for size in (40, 301, 40_000):
        data = log_of(steps[:50] if size > BLOCK else steps, size)
        (tmp_path / "run-abc.wandb").write_bytes(data)
        assert list(folders.steps_logged(tmp_path / "run-abc.wandb")) == (steps[:50] if size > BLOCK else steps)
        (tmp_path / "run-abc.wandb").write_bytes(data[:-5])
        assert folders.last_step(tmp_path) == (480 if size > BLOCK else 4980)
    assert folders.last_step(tmp_path / "nothing") == -1


def test_what_is_kept_survives_packing_and_has_no_debug_log(tmp_path: Path) -> None:
    place = tmp_path / "wandb"
    one = make(place, "offline-run-20260101_000000-abc", log_of([1]))
    two = make(place, "run-20260101_000001-abc", log_of([2]))
    make(place, "offline-run-20260101_000000-other", log_of([3]))
    cut = [log_of([])[:-1], NOTHING, b""]  # one of these would keep `wandb sync` from uploading any
    killed = [make(place, f"offline-run-20260101_00000{2 + i}-abc", log) for i, log in enumerate(cut)]
    (place / "latest-run").symlink_to(two)
    found = folders.of_run("abc", place, tmp_path / "absent")
    assert found == [one, two, *killed]
    folders.pack(found, "[1]", tmp_path / "packed.zip")
    assert folders.unpack(tmp_path / "packed.zip", tmp_path / "there") == "[1]"
    folders.copy(found, tmp_path / "copied")
    for root in (tmp_path / "there/wandb", tmp_path / "copied"):
        assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()) == [
            "offline-run-20260101_000000-abc/files/media/plot.png",
            "offline-run-20260101_000000-abc/run-abc.wandb",
            "run-20260101_000001-abc/files/media/plot.png",
            "run-20260101_000001-abc/run-abc.wandb",
        ]
        assert [folders.last_step(folder) for folder in folders.of_run("abc", root, place)] == [1, 2, -1, -1, -1]


def test_a_run_folder_whose_name_was_taken_is_found_behind_the_one_that_took_it(tmp_path: Path) -> None:
    names = ["offline-run-20260101_000000-abc", "offline-run-20260101_000000-abc-1", "run-20260101_000001-abc"]
    for name in reversed(names):
        make(tmp_path, name, log_of([1]))
    make(tmp_path, "run-20260101_000001-abc-def", log_of([1]))
    assert [folder.name for folder in folders.of_run("abc", tmp_path)] == names


def test_folders_that_vanish_while_they_are_packed_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb-core works in these folders meanwhile."""
    folder = make(tmp_path, "run-20260101_000000-abc", log_of([1]))
    real = os.scandir

    def scandir(path: Any) -> Any:
        found = real(path)
        if str(path) == str(folder / "files"):
            shutil.rmtree(folder / "files/media")
        return found

    monkeypatch.setattr(os, "scandir", scandir)
    folders.pack([folder], "[1]", tmp_path / "packed.zip")
    assert not (folder / "files/media").exists()
    assert folders.unpack(tmp_path / "packed.zip", tmp_path / "there") == "[1]"
    assert folders.last_step(tmp_path / "there/wandb" / folder.name) == 1


def test_a_run_folder_made_in_the_second_of_another_waits_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = time.strftime("%Y%m%d_%H%M%S")
    folders.wait_for_a_new_name([tmp_path / f"offline-run-{stamp}-abc"])
    assert time.strftime("%Y%m%d_%H%M%S") > stamp
    monkeypatch.setattr(folders, "_SECONDS_FOR_A_NAME", 0.1)
    folders.wait_for_a_new_name([tmp_path / "run-99991231_235959-abc"])  # a clock that was wrong: given up
