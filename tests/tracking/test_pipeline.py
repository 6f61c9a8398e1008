"""Tracking as its user meets it: whole pipelines, in processes of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftjobs import artifacts
from ftjobs.execution import runner
from ftjobs.jobfile.read import read
from ftjobs.plan import plan, select
from ftjobs.storage import open_storage
from ftjobs.tracking.folders import steps_logged
from ftjobs.tracking.tracked import run_id
from tests.fakes.wandb_server import WandbServer
from tests.helpers.pipelines import job_fields, write_rows
from tests.tracking.conftest import WANDB

EPOCHS, STEPS_PER_EPOCH = 10, 9


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Path]:
    """`job(tracking)`: a job file with one stage that trains."""

    def make(tracking: dict[str, Any]) -> Path:
        write_rows(tmp_path / "rows.csv")
        fields = job_fields(None, hypotheses=[], tracking=tracking)
        fields["stages"] = {"head": {"kind": "classify", "epochs": EPOCHS, "save_every": 20}}
        (tmp_path / "job.yaml").write_text(json.dumps(fields))
        return tmp_path / "job.yaml"

    return make


def prepare(job: Path, folder: Path) -> None:
    """Publish the data and the encoder to the stores `store` and `plain`, here and untracked, which changes nothing."""
    stage = select(plan(read(job, ["tracking={}"])), "prepare")
    runner.run_stage(stage, open_storage(str(folder / "plain")))
    shutil.copytree(folder / "plain", folder / "store")


#: `ftjobs` whose training goes no further than this many steps before it is asked to stop, on however fast a machine.
HELD = """
import time
from ftjobs import signals
from ftjobs.__main__ import main
asked, steps = signals.requested, iter(range(30))
def requested():
    if next(steps, None) is None:
        while not asked():
            time.sleep(0.01)
    return asked()
signals.requested = requested
main()
"""


def start(job: Path, store: str, *how: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *(how or ("-m", "ftjobs")), "stage", job.name, "head", "--store", store],
        cwd=job.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(job: Path, store: str) -> str:
    process = start(job, store)
    said = process.communicate(timeout=180)[1]
    assert process.returncode == 0, said
    return said


def stop(process: subprocess.Popen[str], sign: str, store: Path) -> tuple[int, float, str]:
    """SIGTERM once a state is stored and, if there is a sign to wait for, once it is said.

    Returns the exit code, how long it took to end, and what was said.
    """
    assert process.stderr is not None
    said = ""
    while sign not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    while not list(store.rglob("whole.json")):
        assert process.poll() is None, said
        time.sleep(0.05)
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said += process.communicate(timeout=60)[1]
    return process.returncode, time.monotonic() - started, said


@pytest.mark.slow
def test_a_stopped_stage_goes_on_offline_as_one_run_and_publishes_the_same_model(
    job: Callable[..., Path], tmp_path: Path
) -> None:
    path = job(WANDB)
    prepare(path, tmp_path)
    code, seconds, said = stop(start(path, "store", "-c", HELD), "kept offline", tmp_path / "store")
    assert code == 143, said
    assert seconds < 10
    assert "Traceback" not in said
    said = run(path, "store")
    assert "resuming after step" in said
    assert "Weights & Biases is kept offline: no key" in said
    storage = open_storage(str(tmp_path / "store"))
    tracked = select(plan(read(path)), "head")
    manifest = artifacts.require_manifest(storage, tracked)
    folder = artifacts.fetch(storage, manifest, tmp_path)
    logs = sorted(folder.glob(f"wandb/offline-run-*-{run_id(tracked)}/run-{run_id(tracked)}.wandb"))
    assert len(logs) in (1, 2), "a folder for each attempt; that of the first only if wandb had begun to write it"
    steps = [step for log in logs for step in steps_logged(log)]
    last = EPOCHS * STEPS_PER_EPOCH
    assert steps == sorted({*range(10, last + 1, 10), *range(STEPS_PER_EPOCH, last + 1, STEPS_PER_EPOCH)})
    assert not list(tmp_path.glob("wandb*")), "nothing is written to where the command was typed"

    path = job({})
    run(path, "plain")
    untracked = open_storage(str(tmp_path / "plain"))
    plain = artifacts.fetch(untracked, artifacts.require_manifest(untracked, tracked), tmp_path)
    assert not (plain / "wandb").exists()
    for name in ("model/model.safetensors", "metrics.json", "predictions.parquet"):
        assert (plain / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.slow
def test_sigterm_ends_the_process_in_time_even_if_a_server_hangs(
    job: Callable[..., Path], wandb_server: WandbServer, tmp_path: Path
) -> None:
    path = job(WANDB)
    prepare(path, tmp_path)
    wandb_server.silent.set()
    process = start(path, "store", "-c", HELD, **wandb_server.environment())
    code, seconds, said = stop(process, "", tmp_path / "store")
    assert code == 143, said
    assert seconds < 10
    assert re.search(r"resuming|stopped by SIGTERM", said)


def test_without_tracking_it_is_not_even_imported(job: Callable[..., Path], tmp_path: Path) -> None:
    path = job({})
    code = (
        "import sys; sys.argv = ['ftjobs', 'run', 'job.yaml', '--store', 'store', '--set', 'stages.head.epochs=1']\n"
        "from ftjobs import cli\ncli.main()\n"
        "loaded = {name for name in sys.modules if name.startswith(('wandb', 'ftjobs.tracking', 'accelerate.tracking'))}\n"
        "assert not loaded & {'wandb', 'ftjobs.tracking.tracked', 'ftjobs.tracking.weights_and_biases'}, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=path.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
