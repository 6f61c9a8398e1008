"""Run one stage on several processes with accelerate's launcher; the output of the worker of rank 0 counts.

This process fetches the inputs and the latest training state before, and publishes afterwards. Workers only see local
folders, except that rank 0 saves training state to storage. The workers' side is `ftjobs.execution.worker`.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftjobs.errors import FtjobsError, PeerLost, UserError
from ftjobs.execution.checkpointing import Superseded
from ftjobs.execution.topology import Topology
from ftjobs.plan import StageRun

POLL_INTERVAL_SECONDS = 0.5
_STOP_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class WorkerTask:
    """Input of every worker."""

    run: StageRun
    store: str
    inputs: dict[str, Path]
    output: Path
    work: Path
    state: Path | None
    """Folder of the training state to resume from."""

    @property
    def result(self) -> Path:
        """JSON file with the metrics of the stage, written by rank 0, or the error of any worker."""
        return self.work / "result.json"

    @property
    def progress(self) -> Path:
        """JSON file with `[step, total]`, written by rank 0."""
        return self.work / "progress.json"


def run_workers(task: WorkerTask, topology: Topology, monitor: Callable[[], None]) -> dict[str, Any]:
    """Run this node's workers to their end and return the metrics of the stage, `{}` on nodes other than rank 0.

    Args:
        task: input of the workers.
        topology: processes and nodes of the stage.
        monitor: called twice a second; an exception that it raises stops the workers.

    Raises:
        Superseded: another attempt has published the artifact in the meantime.
        PeerLost: the workers of another node have ended or never started.
        UserError, FtjobsError: a worker failed.
        Stopped: SIGTERM; the workers have ended and training state is saved.
    """
    task_file = task.work / "task"
    task_file.write_bytes(pickle.dumps(task))  # safe to unpickle: only this process can write to the folder
    launcher = subprocess.Popen(_command(topology, task_file), env=_environment())
    try:
        while launcher.poll() is None:
            time.sleep(POLL_INTERVAL_SECONDS)
            if not task.result.exists():  # with a result, the state of peers no longer matters
                monitor()
    finally:
        if launcher.poll() is None:
            _stop(launcher)
    return _read_result(task, topology, launcher.returncode)


def _command(topology: Topology, task_file: Path) -> list[str]:
    nodes = ["--num_machines", str(topology.nodes), "--machine_rank", str(topology.rank)]
    if topology.nodes > 1:
        nodes += ["--main_process_ip", str(topology.address), "--main_process_port", str(topology.port)]
        nodes += ["--same_network", "--rdzv_backend", "static"]
    else:
        nodes += ["--main_process_port", "0"]  # any free port
    processes = ["--multi_gpu", "--num_processes", str(topology.processes), "--mixed_precision", "no"]
    command = [sys.executable, "-m", "ftjobs.execution.launcher", *processes, *nodes]
    return [*command, "--dynamo_backend", "no", "--module", "ftjobs.execution.worker", str(task_file)]


def _environment() -> dict[str, str]:
    import torch

    cpu = {} if torch.accelerator.is_available() else {"ACCELERATE_USE_CPU": "true"}
    return os.environ | cpu | {"ACCELERATE_CONFIG_FILE": os.devnull}


def _stop(launcher: subprocess.Popen[bytes]) -> None:
    launcher.terminate()
    try:
        launcher.wait(_STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        launcher.kill()
        launcher.wait()


def _read_result(task: WorkerTask, topology: Topology, returncode: int) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(task.result.read_text())
    except FileNotFoundError:
        result = {}
    if "metrics" in result:
        metrics: dict[str, Any] = result["metrics"]
        return metrics
    if result.get("superseded"):
        raise Superseded
    if returncode == PeerLost.exit_code:
        raise PeerLost(
            result.get("problems")
            or f"{task.run.title}: the processes of another node have ended or never started; all nodes restart from "
            "the latest training state"
        )
    if "problems" in result:
        kind = UserError if result["exit_code"] == UserError.exit_code else FtjobsError
        raise kind(result["problems"])
    if returncode == 0 and not topology.is_main:
        return {}
    raise FtjobsError(f"{task.run.title}: a worker ended without a result (exit code {returncode})")


def main() -> None:
    """Run accelerate's launcher, without the tracebacks that it prints: workers report errors in their result file."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        launch_command(launch_command_parser().parse_args())
    except ChildFailedError as error:
        codes = {failure.exitcode for failure in error.failures.values()}
        sys.exit(PeerLost.exit_code if codes == {PeerLost.exit_code} else 1)
    except DistError:  # rendezvous failed
        sys.exit(PeerLost.exit_code)
    except SignalException:
        sys.exit(1)


if __name__ == "__main__":
    main()
