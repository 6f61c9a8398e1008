"""What the reference experiment costs by ftjobs, and by what a user would run instead.

    python -m tests.benchmarks.experiment --encoder ../shared/models/bert-tiny-mlm --steps 48

The five training stages of `jobs/medical-questions.yaml` run by `transformers.Trainer` as its example scripts use it
(`plain`), by the same tuned, and by ftjobs, in turn, each in a process of its own. `--steps` optimizer steps of a stage
are taken: three epochs over a sample of the rows. Results go to stdout as Markdown, with `--json` also to a file.
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
"""Of the sample: one to warm up, and as many rows as the steps allow, since all group texts by length among what is there."""
PAIRS = ROOT.parent / "shared/data/medical_question_pairs.csv"


def main() -> None:
    """Measure what the command line asks for."""
    wanted = arguments()
    job = read(ROOT / "jobs/medical-questions.yaml", [f"data.source={wanted.data}"])
    with tempfile.TemporaryDirectory(prefix="ftjobs-benchmark-") as folder:
        experiment = Experiment(job, wanted, Path(folder))
        print(heading(wanted), flush=True)
        experiment.run()
        print(experiment.table(), flush=True)
        if wanted.full:
            print(experiment.accuracies())
        if wanted.json:
            wanted.json.write_text(json.dumps(experiment.raw(), indent=1) + "\n")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.experiment")
    parser.add_argument("--encoder", required=True, help="toy, bert-base-random, or a model folder")
    parser.add_argument("--data", default=str(PAIRS if PAIRS.is_file() else ROOT / "jobs/quickstart.csv"))
    parser.add_argument("--steps", type=int, default=32, help="optimizer steps per stage, in all epochs together")
    parser.add_argument("--rounds", type=int, default=2, help="times that all sides take their turn")
    parser.add_argument("--stages", nargs="+", help="only these stages; a stage that reads `adapt` needs it")
    parser.add_argument(
        "--sides", nargs="+", choices=SIDES, default=SIDES, help="only these; `ours` is what ratios are over"
    )
    parser.add_argument("--full", action="store_true", help="all rows, and accuracies side by side")
    parser.add_argument("--seeds", type=int, default=3, help="with --full: seeds")
    parser.add_argument("--device", choices=["auto", "cpu"], default="auto", help="cpu: leave a GPU alone")
    parser.add_argument("--threads", type=int, help="OMP_NUM_THREADS of every side")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    wanted = parser.parse_args()
    if wanted.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return wanted


def heading(wanted: argparse.Namespace) -> str:
    """Where, what and when."""
    from tests.benchmarks.peak import matmul_peak

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    peak, kind = matmul_peak()
    return (
        f"{wanted.encoder}, {'all rows' if wanted.full else f'{wanted.steps} steps a stage'}; {machine()}; "
        f"{peak / 1e9:.0f} GFLOP/s in {kind}; commit {commit.stdout.strip()}; load {os.getloadavg()[0]:.1f}\n"
    )


def machine() -> str:
    """The chip that is measured."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {model[0].split(': ')[1] if model else platform.processor()}"


class Experiment:
    """Measurements of every stage and side."""

    def __init__(self, job: Job, wanted: argparse.Namespace, folder: Path) -> None:
        self.job, self.wanted, self.folder = job, wanted, folder
        self.whole = folder / "whole"
        prepare(job, wanted.encoder, self.whole, folder / "made")
        stage = job.stage("behavioural")  # `adapt` has twice the texts and takes twice as many a step
        rows = max(wanted.steps * stage.per_device_batch_size // SAMPLE_EPOCHS, stage.per_device_batch_size)
        self.full, self.size = sample(self.whole, folder / "sample", 10**9 if wanted.full else rows)
        self.stages = wanted.stages or list(job.stages)
        self.found: dict[tuple[str, str], list[Measured]] = {}
        self.sides = [side for side in SIDES if side in wanted.sides]
        self.workers = 0

    def run(self) -> None:
        """Take every measurement, sides in turn."""
        seeds = self.wanted.seeds if self.wanted.full else self.wanted.rounds
        self.workers = self._best_workers()
        for turn in range(seeds):
            for stage in self.stages:
                for side in self.sides:
                    seed = 42 + turn if self.wanted.full else 42
                    measured = self._measure(stage, side, seed, turn)
                    self.found.setdefault((stage, side), []).append(measured)
                    pace = 1e3 * measured.per_step(self._epochs(stage))
                    print(f"{stage} {side}: {pace:.1f} ms a step", file=sys.stderr, flush=True)

    def _best_workers(self) -> int:
        if "tuned" not in self.sides or self.stages == ["adapt"] or (os.cpu_count() or 1) < 2:
            return 0
        stage = next(name for name in self.stages if name != "adapt")
        found = {}
        for workers in (0, 2):
            self.workers = workers
            measured = self._measure(stage, "tuned", 42, -1 - workers, fresh=True)
            found[workers] = measured.per_step(self._epochs(stage))
        return min(found, key=lambda workers: found[workers])

    def _measure(self, stage: str, side: str, seed: int, turn: int, fresh: bool = False) -> Measured:
        from ftjobs.system.device import training_device
        from ftjobs.training.optimization import precision

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
            precision="bf16" if precision("auto", training_device()) != "no" else "no",
        )
        return measure(spec, self.wanted.threads)

    def table(self) -> str:
        """Per stage and side: cost of a step, and the whole stage at that pace with its start and evaluations."""
        from tests.benchmarks.peak import matmul_peak, tokens_and_operations

        peak, _ = matmul_peak()
        lines = [
            "| stage | by | ms/step | examples/s | tokens/s | of peak | peak MB | ratio | start | test rows once | whole stage |",
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
                found = self.found[stage, side]
                seconds = self._per_step(stage, side) * steps
                share = self.size.test / self.full.test
                evaluation = statistics.mean(one.evaluation for one in found) / share
                whole = statistics.mean(one.whole(settings.epochs, steps, share) for one in found)
                totals[side] += whole
                lines.append(
                    f"| {stage} | {side} | {1e3 * seconds / steps:.1f} | {examples * settings.epochs / seconds:.0f} "
                    f"| {tokens * settings.epochs / seconds:.0f} | {operations / seconds / peak:.0%} "
                    f"| {statistics.mean(one.memory for one in found) / 1e6:.0f} | {seconds / steps / ours:.2f} "
                    f"| {statistics.mean(one.start for one in found):.1f} s | {evaluation:.1f} s | {whole:.0f} s |"
                )
        for side in self.sides:
            ratio = totals[side] / totals["ours"]
            lines.append(f"| **all** | {side} | | | | | | {ratio:.2f} | | | {totals[side]:.0f} s |")
        notes = {side: self.found[self.stages[0], side][0].notes for side in self.sides}
        return "\n".join([*lines, "", f"Ratio: seconds over those of ftjobs. {notes}"])

    def _per_step(self, stage: str, side: str) -> float:
        return statistics.mean(one.per_step(self._epochs(stage)) for one in self.found[stage, side])

    def _epochs(self, stage: str, measured: bool = False) -> int:
        """Of the job, or of what is measured."""
        epochs = self.job.stage(stage).epochs
        return min(epochs, SAMPLE_EPOCHS) if measured and not self.wanted.full else epochs

    def accuracies(self) -> str:
        """Accuracy of the best epoch over seeds, side by side."""
        lines = ["", "| stage | " + " | ".join(self.sides) + " |", "|---|" + "---:|" * len(self.sides)]
        for stage in (name for name in self.stages if self.job.stage(name).kind == "classify"):
            cells = []
            for side in self.sides:
                values = [100 * one.accuracy for one in self.found[stage, side] if one.accuracy is not None]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                cells.append(f"{statistics.mean(values):.2f} ± {spread:.2f}")
            lines.append(f"| {stage} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def raw(self) -> dict[str, Any]:
        """Everything measured."""
        sizes: dict[str, Size] = {"full": self.full, "sample": self.size}
        found = {f"{stage} {side}": [asdict(one) for one in runs] for (stage, side), runs in self.found.items()}
        return {"sizes": {name: asdict(size) for name, size in sizes.items()}, "measurements": found}


def prepare(job: Job, encoder: str, folder: Path, made: Path) -> None:
    """Run `prepare` for an encoder that the yardstick knows, or a folder."""
    from ftjobs.data.readers.sources import read as read_source
    from ftjobs.stages import prepare as stage
    from tests.benchmarks.encoders import encoder_settings

    source = read_source(job.data).splits["train"]
    texts = [text for column in job.data.text_columns for text in source[column][:]]
    settings = Prepare(encoder=Encoder(**encoder_settings(encoder, made, texts)), data=Data(**job.data.model_dump()))
    folder.mkdir()
    stage.run(settings, 0, {}, folder)


if __name__ == "__main__":
    main()
