"""A measurement: one side runs one stage in a new process and reports its timings."""

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
    """A stage to run, in the same form for all sides."""

    side: str
    """`ours`, `plain` or `tuned`."""
    kind: str
    """`adapt` or `classify`."""
    settings: dict[str, Any]
    """Fields of the stage in the job file."""
    data: str
    """Output folder of `prepare`, or a sample of it."""
    encoder: str
    """Folder whose `model` is the checkpoint to start from."""
    output: str
    seed: int
    workers: int = 0
    """Data-loader workers of the tuned peer."""
    precision: str = "bf16"
    """Mixed precision of the tuned peer."""
    started: float = 0.0
    """Start of the process (time.time)."""


@dataclass
class Measured:
    """Timings, memory and accuracy of a stage."""

    start: float
    """Seconds from process start to the first step: imports, model, tokenization; without `once` and evaluations."""
    once: float
    """Seconds of work done once per stage instead of in every step: features of a frozen encoder."""
    epochs: list[float]
    """Training seconds of each epoch."""
    steps: int
    """Optimizer steps per epoch."""
    evaluation: float
    """Seconds of a pass over the held-out texts."""
    passes: int
    """Evaluation passes after every epoch: 1, or 0 where the features of held-out texts are computed once."""
    passes_once: int
    """Evaluation passes per stage, independent of epochs: before training, of the published model, for features."""
    memory: int
    """Peak bytes: of the process, or of tensors on the GPU."""
    accuracy: float | None = None
    """Test accuracy of the best epoch; None for masked language modeling."""
    notes: dict[str, Any] = field(default_factory=dict)

    def per_step(self, epochs: int) -> float:
        """Return seconds per step of a job of `epochs` epochs, including its share of `once`.

        Based on the median epoch, since the first one compiles kernels and grows the heap. `once` and the time of an epoch
        both grow linearly with the data, so a sample gives the rate of the whole."""
        return (statistics.median(self.epochs) + self.once / epochs) / self.steps

    def job_seconds(self, epochs: int, steps: int, share: float) -> float:
        """Return seconds from process start to the last evaluation of a job of `epochs` epochs and `steps` steps.

        `share` is the fraction of the held-out texts that the measurement evaluated."""
        evaluation = self.evaluation / share * (epochs * self.passes + self.passes_once)
        return self.start + self.per_step(epochs) * steps + evaluation


def measure(spec: Spec, threads: int | None) -> Measured:
    """Run a spec in a new process.

    Raises:
        RuntimeError: the process failed; holds the end of its stderr.
    """
    module = "tests.benchmarks.ours" if spec.side == "ours" else "tests.benchmarks.peer"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    argument = json.dumps({**asdict(spec), "started": time.time()})
    completed = subprocess.run(
        [sys.executable, "-m", module, argument], env=environment, capture_output=True, text=True
    )
    if completed.returncode:
        raise RuntimeError(f"{spec.side} {spec.kind}: {completed.stderr[-3000:]}")
    return Measured(**json.loads(completed.stdout.splitlines()[-1]))


def spec_from_command_line() -> Spec:
    """Return the spec that `measure` passed to this process."""
    return Spec(**json.loads(sys.argv[1]))


def report(measured: Measured) -> None:
    """Print the result as the last line of stdout, where `measure` reads it."""
    print(json.dumps(asdict(measured)))
