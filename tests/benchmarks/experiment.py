"""Cost of the reference experiment with ftjobs and with `transformers.Trainer`.

    python -m tests.benchmarks.experiment --encoder ../shared/models/bert-tiny-mlm --steps 48

The five training stages of `jobs/medical-questions.yaml` run with `transformers.Trainer` as its example scripts use it
(`plain`), with the same tuned (`tuned`), and with ftjobs (`ours`), alternating, each in a new process. A stage runs for
`--steps` optimizer steps: three epochs over a sample of the rows. Prints Markdown; `--json` also writes a file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ftjobs.jobfile.fields import Data, Encoder, Job
from ftjobs.jobfile.read import read
from ftjobs.plan import Prepare
from tests.benchmarks.measurement import Measured, Spec, measure
from tests.benchmarks.sampling import Size, sample

ROOT = Path(__file__).parent.parent.parent
SIDES = ("plain", "tuned", "ours")
SAMPLE_EPOCHS = 3
"""Epochs over the sample: one to warm up, and few, so that the sample is large: every side groups texts by length within it."""
PAIRS = ROOT.parent / "shared/data/medical_question_pairs.csv"


def main() -> None:
    """Run the measurements that the command line selects and print the tables."""
    options = arguments()
    job = read(ROOT / "jobs/medical-questions.yaml", [f"data.source={options.data}"])
    with tempfile.TemporaryDirectory(prefix="ftjobs-benchmark-") as folder:
        experiment = Experiment(job, options, Path(folder))
        print(heading(options), flush=True)
        experiment.run()
        print(experiment.table(), flush=True)
        if options.full:
            print(experiment.accuracies())
        if options.json:
            options.json.write_text(json.dumps(experiment.raw(), indent=1) + "\n")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.experiment")
    parser.add_argument("--encoder", required=True, help="toy, bert-base-random, or a model folder")
    parser.add_argument("--data", default=str(PAIRS if PAIRS.is_file() else ROOT / "jobs/quickstart.csv"))
    parser.add_argument("--steps", type=int, default=32, help="optimizer steps per stage, over all epochs")
    parser.add_argument("--rounds", type=int, default=2, help="measurements of every stage and side")
    parser.add_argument("--stages", nargs="+", help="only these stages; include `adapt` for stages that read it")
    parser.add_argument(
        "--sides", nargs="+", choices=SIDES, default=SIDES, help="only these; ratios are relative to `ours`"
    )
    parser.add_argument("--full", action="store_true", help="all rows, and accuracies side by side")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds with --full")
    parser.add_argument("--device", choices=["auto", "cpu"], default="auto", help="cpu: do not use a GPU")
    parser.add_argument("--threads", type=int, help="OMP_NUM_THREADS of every side")
    parser.add_argument("--json", type=Path, help="file for the measurements")
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return options


def heading(options: argparse.Namespace) -> str:
    """Return the first line of the output: encoder, machine, peak, commit and load."""
    from tests.benchmarks.peak import matmul_peak

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    peak, kind = matmul_peak()
    return (
        f"{options.encoder}, {'all rows' if options.full else f'{options.steps} steps a stage'}; {machine()}; "
        f"{peak / 1e9:.0f} GFLOP/s in {kind}; commit {commit.stdout.strip()}; load {os.getloadavg()[0]:.1f}\n"
    )


def machine() -> str:
    """Return the name of the GPU or CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {model[0].split(': ')[1] if model else platform.processor()}"


class Experiment:
    """Measurements of every stage and side."""

    def __init__(self, job: Job, options: argparse.Namespace, folder: Path) -> None:
        self.job, self.options, self.folder = job, options, folder
        self.whole = folder / "whole"
        prepare(job, options.encoder, self.whole, folder / "encoder")
        stage = job.stage("behavioural")  # `adapt` has twice as many texts and twice the batch size
        rows = max(options.steps * stage.per_device_batch_size // SAMPLE_EPOCHS, stage.per_device_batch_size)
        self.full, self.size = sample(self.whole, folder / "sample", 10**9 if options.full else rows)
        self.stages = options.stages or list(job.stages)
        self.measurements: dict[tuple[str, str], list[Measured]] = {}
        self.sides = [side for side in SIDES if side in options.sides]
        self.workers = 0

    def run(self) -> None:
        """Measure every stage, alternating between the sides."""
        seeds = self.options.seeds if self.options.full else self.options.rounds
        self.workers = self._best_workers()
        for turn in range(seeds):
            for stage in self.stages:
                for side in self.sides:
                    seed = 42 + turn if self.options.full else 42
                    measured = self._measure(stage, side, seed, turn)
                    self.measurements.setdefault((stage, side), []).append(measured)
                    milliseconds = 1e3 * measured.per_step(self._epochs(stage))
                    print(f"{stage} {side}: {milliseconds:.1f} ms per step", file=sys.stderr, flush=True)

    def _best_workers(self) -> int:
        if "tuned" not in self.sides or self.stages == ["adapt"] or (os.cpu_count() or 1) < 2:
            return 0
        stage = next(name for name in self.stages if name != "adapt")
        seconds = {}
        for workers in (0, 2):
            self.workers = workers
            measured = self._measure(stage, "tuned", 42, -1 - workers, fresh=True)
            seconds[workers] = measured.per_step(self._epochs(stage))
        return min(seconds, key=lambda workers: seconds[workers])

    def _measure(self, stage: str, side: str, seed: int, turn: int, fresh: bool = False) -> Measured:
        from ftjobs.system.device import training_device
        from ftjobs.training.optimization import resolve_precision

        settings = self.job.stage(stage)
        reads = None if fresh else self.job.stage_encoder(stage)
        encoder = self.folder / f"{reads}-{side}-{turn}" if reads else self.whole
        spec = Spec(
            side=side,
            kind=settings.kind,
            settings={**settings.model_dump(exclude_unset=True), "epochs": self._epochs(stage, measured=True)},
            data=str(self.folder / "sample"),
            encoder=str(encoder),
            output=str(self.folder / f"{stage}-{side}-{turn}"),
            seed=seed,
            workers=self.workers,
            precision="bf16" if resolve_precision("auto", training_device()) != "no" else "no",
        )
        return measure(spec, self.options.threads)

    def table(self) -> str:
        """Return a table of every stage and side: cost per step, and of the whole stage at that rate."""
        from tests.benchmarks.peak import matmul_peak, tokens_and_operations

        peak, _ = matmul_peak()
        lines = [
            "| stage | side | ms/step | examples/s | tokens/s | of peak | peak MB | ratio | start | evaluation | whole stage |",
            "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        totals = dict.fromkeys(self.sides, 0.0)
        for stage in self.stages:
            settings = self.job.stage(stage)
            tokens, operations = tokens_and_operations(self.whole, settings)
            examples = self.full.train * (2 if settings.kind == "adapt" else 1)
            steps = -(-examples // settings.per_device_batch_size) * settings.epochs
            ours = self._per_step(stage, "ours")
            for side in self.sides:
                runs = self.measurements[stage, side]
                seconds = self._per_step(stage, side) * steps
                share = self.size.test / self.full.test
                evaluation = statistics.mean(run.evaluation for run in runs) / share
                job_seconds = statistics.mean(run.job_seconds(settings.epochs, steps, share) for run in runs)
                totals[side] += job_seconds
                lines.append(
                    f"| {stage} | {side} | {1e3 * seconds / steps:.1f} | {examples * settings.epochs / seconds:.0f} "
                    f"| {tokens * settings.epochs / seconds:.0f} | {operations / seconds / peak:.0%} "
                    f"| {statistics.mean(run.memory for run in runs) / 1e6:.0f} | {seconds / steps / ours:.2f} "
                    f"| {statistics.mean(run.start for run in runs):.1f} s | {evaluation:.1f} s | {job_seconds:.0f} s |"
                )
        for side in self.sides:
            ratio = totals[side] / totals["ours"]
            lines.append(f"| **all** | {side} | | | | | | {ratio:.2f} | | | {totals[side]:.0f} s |")
        notes = {side: self.measurements[self.stages[0], side][0].notes for side in self.sides}
        return "\n".join([*lines, "", f"Ratio: time relative to ftjobs. {notes}"])

    def _per_step(self, stage: str, side: str) -> float:
        return statistics.mean(run.per_step(self._epochs(stage)) for run in self.measurements[stage, side])

    def _epochs(self, stage: str, measured: bool = False) -> int:
        """Return the epochs of a stage in the job, or in the measurement."""
        epochs = self.job.stage(stage).epochs
        return min(epochs, SAMPLE_EPOCHS) if measured and not self.options.full else epochs

    def accuracies(self) -> str:
        """Return a table of the accuracies of the best epochs, mean and standard deviation over seeds."""
        lines = ["", "| stage | " + " | ".join(self.sides) + " |", "|---|" + "---:|" * len(self.sides)]
        for stage in (name for name in self.stages if self.job.stage(name).kind == "classify"):
            cells = []
            for side in self.sides:
                values = [100 * run.accuracy for run in self.measurements[stage, side] if run.accuracy is not None]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                cells.append(f"{statistics.mean(values):.2f} ± {spread:.2f}")
            lines.append(f"| {stage} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def raw(self) -> dict[str, Any]:
        """Return all measurements as plain data."""
        sizes: dict[str, Size] = {"full": self.full, "sample": self.size}
        measurements = {
            f"{stage} {side}": [asdict(run) for run in runs] for (stage, side), runs in self.measurements.items()
        }
        return {"sizes": {name: asdict(size) for name, size in sizes.items()}, "measurements": measurements}


def prepare(job: Job, encoder: str, folder: Path, encoder_folder: Path) -> None:
    """Run `prepare` with an encoder of the benchmark or a model folder."""
    from ftjobs.data.readers.sources import read as read_source
    from ftjobs.stages import prepare as stage
    from tests.benchmarks.encoders import encoder_settings

    source = read_source(job.data).splits["train"]
    texts = [text for column in job.data.text_columns for text in source[column][:]]
    settings = Prepare(
        encoder=Encoder(**encoder_settings(encoder, encoder_folder, texts)), data=Data(**job.data.model_dump())
    )
    folder.mkdir()
    stage.run(settings, 0, {}, folder)


if __name__ == "__main__":
    main()
