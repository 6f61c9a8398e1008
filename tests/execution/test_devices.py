"""Training on a GPU matches training on a CPU within rounding, also in mixed precision and after a stop. Without a GPU,
bf16 on a CPU is compared instead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from ftjobs import artifacts
from ftjobs.jobfile.read import read
from ftjobs.plan import plan, select
from ftjobs.storage import open_storage
from tests.helpers import gpus
from tests.helpers.interruptions import wait_for_state
from tests.helpers.pipelines import job_fields, write_rows

pytestmark = pytest.mark.slow

TRAINED = ("adapt", "head", "behavioural")


class Device(NamedTuple):
    name: str
    precision: str
    #: Relative tolerance of losses, compared with a CPU in fp32.
    tolerance: float

    @property
    def overrides(self) -> list[str]:
        return [f"defaults.{kind}.mixed_precision={self.precision}" for kind in ("adapt", "classify")]

    def start(self, job: Path, store: Path, *arguments: str) -> subprocess.Popen[str]:
        variables = gpus.visible() if self.name == "cuda" else dict(os.environ)
        command = [sys.executable, "-m", "ftjobs", *arguments, "--store", str(store)]
        command += [word for override in self.overrides for word in ("--set", override)]
        variables |= {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command, cwd=job.parent, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def run(self, job: Path, store: Path, *arguments: str) -> str:
        """Run a command that must succeed; returns its log."""
        process = self.start(job, store, *arguments)
        _, log = process.communicate(timeout=240)
        assert process.returncode == 0, log
        return log

    def published(self, job: Path, store: Path, stage: str) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the training and evaluation losses of a published stage, (epochs, 2), and its timing."""
        run = select(plan(read(job, self.overrides)), stage)
        folder = store / artifacts.require_manifest(open_storage(str(store)), run).folder
        epochs = json.loads((folder / "metrics.json").read_text())["epochs"]
        losses = [[epoch["train_loss"], epoch.get("test", epoch)["loss"]] for epoch in epochs]
        return np.array(losses), json.loads((folder / "timing.json").read_text())


CPU = Device("cpu", "no", 0.0)
#: The tolerance is highest in fp16, where the gradient scaler may skip the first steps.
GPUS = [Device("cuda", "no", 1e-3), Device("cuda", "bf16", 0.02), Device("cuda", "fp16", 0.05)]
OTHERS = [Device("cpu", "bf16", 0.02), *(pytest.param(device, marks=pytest.mark.gpu) for device in GPUS)]


@pytest.fixture(scope="module")
def job(make_encoder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job without dropout, whose random numbers differ between devices."""
    folder = tmp_path_factory.mktemp("job")
    write_rows(folder / "rows.csv")
    encoder = make_encoder("bert", "pretraining", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    fields = job_fields(encoder, hypotheses=[])
    fields["stages"] = {name: fields["stages"][name] for name in TRAINED}
    fields["defaults"] = {kind: {"epochs": 8, "learning_rate": 3e-3} for kind in ("adapt", "classify")}
    (folder / "job.yaml").write_text(json.dumps(fields))
    return folder / "job.yaml"


@pytest.fixture(scope="module")
def expected(job: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Losses on a CPU in fp32 by stage."""
    store = tmp_path_factory.mktemp("cpu")
    CPU.run(job, store, "run", str(job))
    return {stage: CPU.published(job, store, stage)[0] for stage in TRAINED}


@pytest.mark.parametrize("device", OTHERS, ids=lambda device: f"{device.name} {device.precision}")
def test_losses_match_cpu_in_fp32(job: Path, expected: dict[str, np.ndarray], tmp_path: Path, device: Device) -> None:
    device.run(job, tmp_path, "run", str(job))
    for stage, losses in expected.items():
        actual, timing = device.published(job, tmp_path, stage)
        assert (timing["device"], timing["mixed_precision"]) == (device.name, device.precision)
        np.testing.assert_allclose(actual, losses, rtol=device.tolerance, err_msg=stage)
        assert (actual != losses).any(), stage
        assert losses[-1, 0] < (1.0 if stage == "head" else 0.9) * losses[0, 0]  # training changes the loss


@pytest.mark.parametrize("device", OTHERS, ids=lambda device: f"{device.name} {device.precision}")
def test_stop_and_resume_change_no_losses(job: Path, tmp_path: Path, device: Device) -> None:
    complete, stopped = tmp_path / "whole", tmp_path / "stopped"
    adapt = ("stage", str(job), "adapt", "--set", "defaults.adapt.epochs=20", "--set", "stages.adapt.save_every=7")
    for store in (complete, stopped):
        device.run(job, store, "stage", str(job), "prepare")
    device.run(job, complete, *adapt)
    process = device.start(job, stopped, *adapt)
    wait_for_state(stopped, [process])
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=240)
    assert process.returncode == 143, log
    assert "resuming after step" in device.run(job, stopped, *adapt)
    (first,), (second,) = (list(store.rglob("adapt/**/metrics.json")) for store in (complete, stopped))
    losses = [[epoch["train_loss"] for epoch in json.loads(path.read_text())["epochs"]] for path in (first, second)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0 if device.name == "cpu" else 1e-4)
