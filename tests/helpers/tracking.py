"""Helpers for tests of trackers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftjobs.tracking.wandb_folders import read_steps

WANDB = {"wandb": {"project": "trials"}}
STEPS = list(range(10, 1001, 10))


def make_work_folder(path: Path) -> tuple[Path, Path]:
    """Create a work folder and an output folder with a file; return both."""
    output = path / "output"
    (output / "model").mkdir(parents=True)
    (output / "model/model.safetensors").write_bytes(b"weights")
    return path, output


def wait_until(condition: Callable[[], bool], description: str) -> None:
    """Wait for a condition; the timeout suits a busy machine."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, description
        time.sleep(0.05)


def read_published_steps(output: Path) -> list[int]:
    """Return the steps in all run folders of an output folder, in the order of their upload."""
    logs = sorted((output / "wandb").glob("*/run-*.wandb"), key=lambda path: path.parent.name.removeprefix("offline-"))
    return [step for path in logs for step in read_steps(path)]


def log_steps(log: Callable[[dict[str, Any], int], None], steps: list[int]) -> float:
    """Log a row per step; return the seconds it took."""
    started = time.perf_counter()
    for step in steps:
        log({"train/loss": 0.5, "train/learning_rate": 1e-5}, step)
    return time.perf_counter() - started
