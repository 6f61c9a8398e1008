"""wandb's run folders: finding, copying and packing them, and reading the steps that were logged.

A run folder is `[offline-]run-<time>-<id>/` (with a suffix `-<number>` if that name exists). It contains the
transaction log `run-<id>.wandb` with everything that was logged, and media in `files/`. Several folders with the same
id are segments of one run: `wandb sync` joins them in the order of their start, and does not detect rows that occur in
two of them.
"""

from __future__ import annotations

import io
import os
import shutil
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

_BLOCK_BYTES = 32 * 1024
_FILE_HEADER_BYTES, _RECORD_HEADER_BYTES = 7, 7
#: Longest wait for this clock to pass the time in the name of an existing run folder.
_MAX_NAME_WAIT_SECONDS = 3.0
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def find_run_folders(run_id: str, *parents: Path) -> list[Path]:
    """Return the folders of a run in several parent folders, oldest first; equal names count once."""
    folders: dict[str, Path] = {}
    for parent in parents:
        for pattern in (f"*run-*-{run_id}", f"*run-*-{run_id}-[0-9]*"):
            for folder in parent.glob(pattern):
                if folder.is_dir() and not folder.is_symlink():
                    folders.setdefault(folder.name, folder)
    return sorted(folders.values(), key=lambda folder: folder.name.removeprefix("offline-"))


def wait_for_new_name(folders: list[Path]) -> None:
    """Wait until a new run folder would sort after `folders`: wandb names them by the second.

    The wait is bounded, because a node with a fast clock may have created them.
    """
    newest = max((folder.name.removeprefix("offline-").split("-")[1] for folder in folders), default="")
    deadline = time.monotonic() + _MAX_NAME_WAIT_SECONDS
    while time.strftime("%Y%m%d_%H%M%S") <= newest and time.monotonic() < deadline:
        time.sleep(0.05)


def list_files_to_sync(folder: Path) -> Iterator[Path]:
    """Yield the files that `wandb sync` needs: the transaction log, the record of the upload, and media; no debug logs.

    Yields nothing if the log does not contain the id of its run yet: one such folder makes `wandb sync` fail for all.
    """
    if not any(_has_run_record(log) for log in folder.glob("run-*.wandb")):
        return
    # `os.walk` skips folders that are deleted meanwhile; `rglob` raises.
    media = (Path(parent, name) for parent, _, names in os.walk(folder / "files") for name in names)
    for path in (*sorted(folder.glob("run-*")), *sorted(media)):
        if path.is_file() and not path.is_symlink():
            yield path


def copy_run_folders(folders: list[Path], target: Path) -> None:
    """Copy the files to sync of run folders into `target`."""
    for folder in folders:
        for path in list_files_to_sync(folder):
            copied = target / folder.name / path.relative_to(folder)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copied)


def pack(folders: list[Path], rows: str, path: Path) -> None:
    """Write rows and the files to sync of run folders, which wandb may be writing to, to one zip file."""
    content = io.BytesIO()  # small; the file is then written at once
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.json", rows)
        for folder in folders:
            for file in list_files_to_sync(folder):
                with suppress(FileNotFoundError):
                    archive.writestr(f"wandb/{folder.name}/{file.relative_to(folder)}", file.read_bytes())
    path.write_bytes(content.getvalue())


def unpack(path: Path, target: Path) -> str:
    """Extract packed run folders to `target/wandb` and return the rows."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(target)  # `extractall` keeps paths inside the target
    return (target / "rows.json").read_text()


def last_step(folder: Path) -> int:
    """Return the step of the last row in a run folder; -1 without rows."""
    steps = [step for path in sorted(folder.glob("run-*.wandb")) for step in read_steps(path)]
    return max(steps, default=-1)


def read_steps(path: Path) -> Iterator[int]:
    """Yield the step of every row in a transaction log."""
    from wandb.proto.wandb_internal_pb2 import Record

    for content in _records(path.read_bytes()):
        record = Record.FromString(content)
        for item in record.history.item:
            if item.key == "_step" or list(item.nested_key) == ["_step"]:
                yield int(item.value_json)


def _has_run_record(log: Path) -> bool:
    """Return True if the first two records of every log, a header and the run, are complete."""
    return len(list(islice(_records(log.read_bytes()), 2))) == 2


def _records(data: bytes) -> Iterator[bytes]:
    """Yield the records of a log in LevelDB's format (its `doc/log_format.md`) up to the first incomplete one.

    wandb's own reader is part of wandb-core and has no public interface.
    """
    file, parts = io.BytesIO(data), bytearray()
    file.seek(_FILE_HEADER_BYTES)
    while True:
        left = _BLOCK_BYTES - file.tell() % _BLOCK_BYTES
        if left < _RECORD_HEADER_BYTES:
            file.seek(left, io.SEEK_CUR)  # a header never crosses blocks
        header = file.read(_RECORD_HEADER_BYTES)
        if len(header) < _RECORD_HEADER_BYTES:
            return
        size, kind = int.from_bytes(header[4:6], "little"), header[6]
        piece = file.read(size)
        if len(piece) < size or kind not in (_WHOLE, _FIRST, _MIDDLE, _LAST):
            return
        if kind in (_WHOLE, _FIRST):
            parts.clear()
        parts += piece
        if kind in (_WHOLE, _LAST):
            yield bytes(parts)
