"""Tracked pipelines, in separate processes."""

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
from ftjobs.tracking.wandb_folders import read_steps
from ftjobs.tracking.wandb_tracker import run_id
from tests.fakes.wandb_server import WandbServer
from tests.helpers.pipelines import job_fields, write_rows
from tests.helpers.tracking import WANDB

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
    """Publish the data and the encoder to the stores `store` and `plain`, untracked, which does not change them."""
    stage = select(plan(read(job, ["tracking={}"])), "prepare")
    runner.run_stage(stage, open_storage(str(folder / "plain")))
    shutil.copytree(folder / "plain", folder / "store")


#: Runs `ftjobs`; training pauses after 30 steps until a stop is requested, on however fast a machine.
HELD = """
import time
from ftjobs.system import signals
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
    stderr = process.communicate(timeout=180)[1]
    assert process.returncode == 0, stderr
    return stderr


def stop(process: subprocess.Popen[str], line_part: str, store: Path) -> tuple[int, float, str]:
    """Send SIGTERM once a state is stored and `line_part` is logged.

    Returns:
        The exit code, the seconds until the exit, and stderr.
    """
    assert process.stderr is not None
    stderr = ""
    while line_part not in stderr:
        line = process.stderr.readline()
        assert line, stderr
        stderr += line
    while not list(store.rglob("whole.json")):
        assert process.poll() is None, stderr
        time.sleep(0.05)
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    stderr += process.communicate(timeout=60)[1]
    return process.returncode, time.monotonic() - started, stderr


@pytest.mark.slow
def test_stopped_stage_resumes_as_one_offline_run_with_the_same_model(job: Callable[..., Path], tmp_path: Path) -> None:
    path = job(WANDB)
    prepare(path, tmp_path)
    code, seconds, stderr = stop(start(path, "store", "-c", HELD), "runs offline", tmp_path / "store")
    assert code == 143, stderr
    assert seconds < 10
    assert "Traceback" not in stderr
    stderr = run(path, "store")
    assert "resuming after step" in stderr
    assert "runs offline: no" in stderr
    storage = open_storage(str(tmp_path / "store"))
    tracked = select(plan(read(path)), "head")
    manifest = artifacts.require_manifest(storage, tracked)
    folder = artifacts.fetch(storage, manifest, tmp_path)
    logs = sorted(folder.glob(f"wandb/offline-run-*-{run_id(tracked)}/run-{run_id(tracked)}.wandb"))
    assert len(logs) in (1, 2), "a folder per attempt; none of the first if wandb had not written to it"
    steps = [step for log in logs for step in read_steps(log)]
    last = EPOCHS * STEPS_PER_EPOCH
    assert steps == sorted({*range(10, last + 1, 10), *range(STEPS_PER_EPOCH, last + 1, STEPS_PER_EPOCH)})
    assert not list(tmp_path.glob("wandb*")), "nothing is written to the working directory"

    path = job({})
    run(path, "plain")
    untracked = open_storage(str(tmp_path / "plain"))
    plain = artifacts.fetch(untracked, artifacts.require_manifest(untracked, tracked), tmp_path)
    assert not (plain / "wandb").exists()
    for name in ("model/model.safetensors", "metrics.json", "predictions.parquet"):
        assert (plain / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.slow
def test_sigterm_ends_the_process_in_time_with_a_hanging_server(
    job: Callable[..., Path], wandb_server: WandbServer, tmp_path: Path
) -> None:
    path = job(WANDB)
    prepare(path, tmp_path)
    wandb_server.silent.set()
    process = start(path, "store", "-c", HELD, **wandb_server.environment())
    code, seconds, stderr = stop(process, "", tmp_path / "store")
    assert code == 143, stderr
    assert seconds < 10
    assert re.search(r"resuming|stopped by SIGTERM", stderr)


def test_without_tracking_wandb_is_neither_needed_nor_imported(job: Callable[..., Path], tmp_path: Path) -> None:
    path = job({})
    code = (
        "import sys; sys.modules['wandb'] = None; sys.argv = ['ftjobs', 'run', 'job.yaml', '--store', 'store', '--set', 'stages.head.epochs=1']\n"
        "from ftjobs import cli\ncli.main()\n"
        "loaded = {name for name in sys.modules if name.startswith(('wandb', 'ftjobs.tracking', 'accelerate.tracking'))}\n"
        "assert sys.modules['wandb'] is None\n"
        "assert not loaded & {'ftjobs.tracking.wandb_tracker', 'ftjobs.tracking.wandb_process'}, loaded"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=path.parent, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("command", [["run", "job.yaml"], ["stage", "job.yaml", "prepare"]], ids=lambda words: words[0])
def test_missing_wandb_ends_at_once_with_the_pip_command(
    command: list[str], job: Callable[..., Path], tmp_path: Path
) -> None:
    path = job(WANDB)
    code = "import sys; sys.modules['wandb'] = None; from ftjobs import cli; sys.argv[0] = 'ftjobs'; cli.main()"
    arguments = [sys.executable, "-c", code, *command, "--store", "store"]
    process = subprocess.run(arguments, cwd=path.parent, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 2, process.stderr
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: tracking.wandb: ")
    assert "Traceback" not in process.stderr
    assert "pip install 'ftjobs[wandb]'" in line
    assert not (tmp_path / "store").exists()
