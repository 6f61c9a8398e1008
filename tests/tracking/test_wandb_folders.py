from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from ftjobs.tracking import wandb_folders as folders

BLOCK = 32 * 1024


FILE_HEADER = b":W&B\xe1\xbe\x00"


def log_of(steps: list[int], size: int = 40) -> bytes:
    """Build a transaction log in LevelDB's format: records are split at the ends of blocks."""
    header, run = Record(), Record()
    header.header.version_info.producer = "0.31.0"
    run.run.run_id = "abc"
    records = [header, run]
    for step in steps:
        record = Record()
        record.history.item.add(nested_key=["_step"], value_json=str(step))
        record.history.item.add(nested_key=["train/loss"], value_json="1" * size)
        records.append(record)
    data = bytearray(FILE_HEADER)
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


def test_steps_are_read_across_blocks_up_to_an_incomplete_record(tmp_path: Path) -> None:
    steps = list(range(0, 5000, 10))
    for size in (40, 301, 40_000):
        data = log_of(steps[:50] if size > BLOCK else steps, size)
        (tmp_path / "run-abc.wandb").write_bytes(data)
        assert list(folders.read_steps(tmp_path / "run-abc.wandb")) == (steps[:50] if size > BLOCK else steps)
        (tmp_path / "run-abc.wandb").write_bytes(data[:-5])
        assert folders.last_step(tmp_path) == (480 if size > BLOCK else 4980)
    assert folders.last_step(tmp_path / "nothing") == -1


def test_packing_keeps_logs_and_media_without_debug_logs(tmp_path: Path) -> None:
    place = tmp_path / "wandb"
    first = make(place, "offline-run-20260101_000000-abc", log_of([1]))
    second = make(place, "run-20260101_000001-abc", log_of([2]))
    make(place, "offline-run-20260101_000000-other", log_of([3]))
    cut = [log_of([])[:-1], FILE_HEADER, b""]  # any of these makes `wandb sync` fail for all folders
    killed = [make(place, f"offline-run-20260101_00000{2 + i}-abc", log) for i, log in enumerate(cut)]
    (place / "latest-run").symlink_to(second)
    run_folders = folders.find_run_folders("abc", place, tmp_path / "absent")
    assert run_folders == [first, second, *killed]
    folders.pack(run_folders, "[1]", tmp_path / "packed.zip")
    assert folders.unpack(tmp_path / "packed.zip", tmp_path / "there") == "[1]"
    folders.copy_run_folders(run_folders, tmp_path / "copied")
    for root in (tmp_path / "there/wandb", tmp_path / "copied"):
        assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()) == [
            "offline-run-20260101_000000-abc/files/media/plot.png",
            "offline-run-20260101_000000-abc/run-abc.wandb",
            "run-20260101_000001-abc/files/media/plot.png",
            "run-20260101_000001-abc/run-abc.wandb",
        ]
        assert [folders.last_step(folder) for folder in folders.find_run_folders("abc", root, place)] == [
            1,
            2,
            -1,
            -1,
            -1,
        ]


def test_run_folders_with_a_number_suffix_are_found_in_order(tmp_path: Path) -> None:
    names = ["offline-run-20260101_000000-abc", "offline-run-20260101_000000-abc-1", "run-20260101_000001-abc"]
    for name in reversed(names):
        make(tmp_path, name, log_of([1]))
    make(tmp_path, "run-20260101_000001-abc-def", log_of([1]))
    assert [folder.name for folder in folders.find_run_folders("abc", tmp_path)] == names


def test_packing_tolerates_files_deleted_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb-core uses these folders at the same time."""
    folder = make(tmp_path, "run-20260101_000000-abc", log_of([1]))
    real = os.scandir

    def scandir(path: Any) -> Any:
        entries = real(path)
        if str(path) == str(folder / "files"):
            shutil.rmtree(folder / "files/media")
        return entries

    monkeypatch.setattr(os, "scandir", scandir)
    folders.pack([folder], "[1]", tmp_path / "packed.zip")
    assert not (folder / "files/media").exists()
    assert folders.unpack(tmp_path / "packed.zip", tmp_path / "there") == "[1]"
    assert folders.last_step(tmp_path / "there/wandb" / folder.name) == 1


def test_new_run_folder_waits_for_the_next_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = time.strftime("%Y%m%d_%H%M%S")
    folders.wait_for_new_name([tmp_path / f"offline-run-{stamp}-abc"])
    assert time.strftime("%Y%m%d_%H%M%S") > stamp
    monkeypatch.setattr(folders, "_MAX_NAME_WAIT_SECONDS", 0.1)
    folders.wait_for_new_name([tmp_path / "run-99991231_235959-abc"])  # a wrong clock: the wait is bounded
