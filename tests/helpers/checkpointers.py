"""Checkpointers on a local folder that simulate interruptions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


class Killed(Exception):
    """Simulates the loss of a machine: no code runs after it."""


class FolderCheckpointer:
    """Keep every training state in a folder, and fail right after saving the state of step `kill_at`."""

    def __init__(self, folder: Path, every: int, kill_at: int | None = None) -> None:
        self.folder, self.every, self.kill_at = folder, every, kill_at

    def latest(self) -> Path | None:
        return max(self.folder.iterdir(), default=None)

    def should_save(self, step: int, total: int) -> bool:
        return step % self.every == 0

    def save(self, write: Callable[[Path], None], step: int, total: int, *, wait: bool) -> None:
        (self.folder / f"{step:06d}").mkdir(exist_ok=True)
        write(self.folder / f"{step:06d}")
        if step == self.kill_at:
            raise Killed

    def cached_file(self, name: str) -> Path | None:
        return None

    def cache_file(self, name: str, write: Callable[[Path], None]) -> None:
        return None


class LateCheckpointer(FolderCheckpointer):
    """Keep the write functions instead of calling them, as a slow storage would."""

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(folder, every)
        self.writes: dict[int, Callable[[Path], None]] = {}

    def save(self, write: Callable[[Path], None], step: int, total: int, *, wait: bool) -> None:
        assert not wait
        self.writes[step] = write
