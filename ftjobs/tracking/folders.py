"""wandb's run folders: which there are, what of them is kept, and how far the rows in them go.

A run folder is `[offline-]run-<when>-<id>/` with the transaction log `run-<id>.wandb`, which has all that was logged,
and `files/`, which holds media; `-<number>` follows where that name was taken. Several folders of one id are segments
of one run: `wandb sync` joins them in the order of their start, and does not notice rows that stand in two of them.
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

_BLOCK = 32 * 1024
_FILE_HEADER, _RECORD_HEADER = 7, 7
#: The longest wait for a clock that an earlier one was ahead of.
_SECONDS_FOR_A_NAME = 3.0
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def of_run(run_id: str, *places: Path) -> list[Path]:
    """The folders of a run in these places, oldest first; one that is in two of them counts once."""
    found: dict[str, Path] = {}
    for place in places:
        for pattern in (f"*run-*-{run_id}", f"*run-*-{run_id}-[0-9]*"):
            for folder in place.glob(pattern):
                if folder.is_dir() and not folder.is_symlink():
                    found.setdefault(folder.name, folder)
    return sorted(found.values(), key=lambda folder: folder.name.removeprefix("offline-"))


def wait_for_a_new_name(folders: list[Path]) -> None:
    """Wait until a run folder made now has a name of its own and sorts behind these: wandb names them by the second.

    Not for long: a machine whose clock was ahead may have made them.
    """
    newest = max((folder.name.removeprefix("offline-").split("-")[1] for folder in folders), default="")
    deadline = time.monotonic() + _SECONDS_FOR_A_NAME
    while time.strftime("%Y%m%d_%H%M%S") <= newest and time.monotonic() < deadline:
        time.sleep(0.05)


def kept_files(folder: Path) -> Iterator[Path]:
    """What `wandb sync` needs of a run folder: the run's log, how far it was uploaded, and media; no debug logs.

    Nothing where the log does not say yet whose it is: one such folder keeps `wandb sync` from uploading any.
    """
    if not any(_names_its_run(log) for log in folder.glob("run-*.wandb")):
        return
    # `os.walk` passes over folders that vanish meanwhile; `rglob` raises.
    media = (Path(parent, name) for parent, _, names in os.walk(folder / "files") for name in names)
    for path in (*sorted(folder.glob("run-*")), *sorted(media)):
        if path.is_file() and not path.is_symlink():
            yield path


def copy(folders: list[Path], target: Path) -> None:
    """Copy what is kept of run folders to a folder, each under its own name."""
    for folder in folders:
        for path in kept_files(folder):
            to = target / folder.name / path.relative_to(folder)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)


def pack(folders: list[Path], rows: str, path: Path) -> None:
    """Put rows and what is kept of run folders, which may be written to meanwhile, into one file."""
    content = io.BytesIO()  # small, and so the file is there whole or not at all
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.json", rows)
        for folder in folders:
            for file in kept_files(folder):
                with suppress(FileNotFoundError):
                    archive.writestr(f"wandb/{folder.name}/{file.relative_to(folder)}", file.read_bytes())
    path.write_bytes(content.getvalue())


def unpack(path: Path, target: Path) -> str:
    """Put packed run folders into `target/wandb`; returns the rows."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(target)  # keeps names inside of the target
    return (target / "rows.json").read_text()


def last_step(folder: Path) -> int:
    """The step of the last row in a run folder, -1 if there is none."""
    steps = [step for path in sorted(folder.glob("run-*.wandb")) for step in steps_logged(path)]
    return max(steps, default=-1)


def steps_logged(path: Path) -> Iterator[int]:
    """The step of every row in a transaction log."""
    from wandb.proto.wandb_internal_pb2 import Record

    for content in _records(path.read_bytes()):
        record = Record.FromString(content)
        for item in record.history.item:
            if item.key == "_step" or list(item.nested_key) == ["_step"]:
                yield int(item.value_json)


def _names_its_run(log: Path) -> bool:
    """Whether the records that every log begins with, a header and the run, are there."""
    return len(list(islice(_records(log.read_bytes()), 2))) == 2


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format (its `doc/log_format.md`), up to the first that is not whole.

    wandb's own reader is part of wandb-core and has no interface for others.
    """
    file, parts = io.BytesIO(data), bytearray()
    file.seek(_FILE_HEADER)
    while True:
        left = _BLOCK - file.tell() % _BLOCK
        if left < _RECORD_HEADER:
            file.seek(left, io.SEEK_CUR)  # a header is never divided
        header = file.read(_RECORD_HEADER)
        if len(header) < _RECORD_HEADER:
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
