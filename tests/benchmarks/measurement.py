"""One measurement: a stage, run by one side in a process of its own, and what it says about itself."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Spec:
    """What to run; both sides read it."""

    side: str
    """`ours`, `plain` or `tuned`."""
    kind: str
    """`adapt` or `classify`."""
    settings: dict[str, Any]
    """The stage of the job file."""
    data: str
    """Folder that `prepare` wrote, or a sample of it."""
    encoder: str
    """Folder of the checkpoint to start from, as `model` in it."""
    output: str
    seed: int
    workers: int = 0
    """Of the tuned peer's data loader."""
    precision: str = "bf16"
    """Of the tuned peer."""
    started: float = 0.0
    """When the process was started (time.time)."""


@dataclass
class Measured:
    """What came out."""

    start: float
    """Seconds from process start to the first step: imports, model, tokenization; without `once` and evaluations."""
    once: float
    """Seconds of work done once a stage instead of in every step: features of a frozen encoder."""
    epochs: list[float]
    """Training seconds of each epoch."""
    steps: int
    """Optimizer steps per epoch."""
    evaluation: float
    """Seconds of a pass over the held-out texts."""
    passes: int
    """Such passes after every epoch: 1, or 0 where features of theirs are computed once."""
    passes_once: int
    """Such passes that a stage takes whatever its epochs: before training, of what is published, for features."""
    memory: int
    """Peak bytes: of the process, or of tensors on the GPU."""
    accuracy: float | None = None
    """Of the best epoch on the test rows; None for masked language modelling."""
    notes: dict[str, Any] = field(default_factory=dict)

    def per_step(self, epochs: int) -> float:
        """Seconds per step of a job of `epochs` epochs, its share of `once` included.

        Of the median epoch, as the first one compiles kernels and grows the heap. `once` and epochs grow alike with the
        data, so this holds for the whole of it."""
        return (statistics.median(self.epochs) + self.once / epochs) / self.steps

    def whole(self, epochs: int, steps: int, share: float) -> float:
        """Seconds of a job of `epochs` epochs and `steps` steps from process start to the last evaluation, of which
        `share` of the held-out texts were measured."""
        evaluation = self.evaluation / share * (epochs * self.passes + self.passes_once)
        return self.start + self.per_step(epochs) * steps + evaluation


def measure(spec: Spec, threads: int | None) -> Measured:
    """Run a spec in a new process.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    module = "tests.benchmarks.ours" if spec.side == "ours" else "tests.benchmarks.peer"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    told = json.dumps({**asdict(spec), "started": time.time()})
    found = subprocess.run([sys.executable, "-m", module, told], env=environment, capture_output=True, text=True)
    if found.returncode:
        raise RuntimeError(f"{spec.side} {spec.kind}: {found.stderr[-3000:]}")
    return Measured(**json.loads(found.stdout.splitlines()[-1]))


def spec_from_command_line() -> Spec:
    """What this process was told to run."""
    return Spec(**json.loads(sys.argv[1]))


def report(measured: Measured) -> None:
    """Tell the process that asked; the last line of stdout."""
    print(json.dumps(asdict(measured)))
