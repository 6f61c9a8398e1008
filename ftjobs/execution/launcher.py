"""One stage on several processes: accelerate's launcher starts workers, and the first one's output counts.

This process has fetched the inputs and the newest training state before, and publishes afterwards. So a worker has
folders, and only the first touches storage, to save training state.
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

SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_END = 60.0


@dataclass(frozen=True)
class Task:
    """What every worker is told."""

    run: StageRun
    store: str
    inputs: dict[str, Path]
    output: Path
    work: Path
    newest: Path | None
    """Folder of the training state to go on from."""

    @property
    def result(self) -> Path:
        """Where the first worker leaves the stage's metrics, or a worker its error."""
        return self.work / "result.json"

    @property
    def progress(self) -> Path:
        """Where the first worker says how far it is."""
        return self.work / "progress.json"


def run_together(task: Task, machines: Topology, look: Callable[[], None]) -> dict[str, Any]:
    """Run a stage on this machine's share of the processes; returns its metrics, none on machines other than the first.

    Args:
        task: what they are told.
        machines: how many there are of them.
        look: called all the while; what it raises ends them.

    Raises:
        Superseded: another attempt has published the artifact meanwhile.
        OtherMachineLost: the processes of another machine have ended, or did not come.
        UserError, FtjobsError: of a worker.
        Stopped: SIGTERM; the workers have ended, training state is saved.
    """
    path = task.work / "task"
    path.write_bytes(pickle.dumps(task))  # our own, in a folder that only we can write to
    launcher = subprocess.Popen(_command(machines, path), env=_environment())
    try:
        while launcher.poll() is None:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            if not task.result.exists():  # then it is done, whatever becomes of others
                look()
    finally:
        if launcher.poll() is None:
            _end(launcher)
    return _result(task, machines, launcher.returncode)


def _command(machines: Topology, task: Path) -> list[str]:
    several = ["--num_machines", str(machines.machines), "--machine_rank", str(machines.rank)]
    if machines.machines > 1:
        several += ["--main_process_ip", str(machines.address), "--main_process_port", str(machines.port)]
        several += ["--same_network", "--rdzv_backend", "static"]
    else:
        several += ["--main_process_port", "0"]  # any free one
    counts = ["--multi_gpu", "--num_processes", str(machines.processes), "--mixed_precision", "no"]
    command = [sys.executable, "-m", "ftjobs.execution.launcher", *counts, *several]
    return [*command, "--dynamo_backend", "no", "--module", "ftjobs.execution.worker", str(task)]


def _environment() -> dict[str, str]:
    import torch

    cpu = {} if torch.accelerator.is_available() else {"ACCELERATE_USE_CPU": "true"}
    return os.environ | cpu | {"ACCELERATE_CONFIG_FILE": os.devnull}


def _end(launcher: subprocess.Popen[bytes]) -> None:
    launcher.terminate()
    try:
        launcher.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        launcher.kill()
        launcher.wait()


def _result(task: Task, machines: Topology, returncode: int) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(task.result.read_text())
    except FileNotFoundError:
        found = {}
    if "metrics" in found:
        metrics: dict[str, Any] = found["metrics"]
        return metrics
    if found.get("superseded"):
        raise Superseded
    if returncode == PeerLost.exit_code:
        raise PeerLost(
            found.get("problems")
            or f"{task.run.title}: the processes of another machine have ended, or did not come; all machines begin "
            "again from the newest state"
        )
    if "problems" in found:
        kind = UserError if found["exit_code"] == UserError.exit_code else FtjobsError
        raise kind(found["problems"])
    if returncode == 0 and not machines.is_main:
        return {}
    raise FtjobsError(f"{task.run.title}: a worker ended without a result (exit code {returncode})")


def main() -> None:
    """Entry point of accelerate's launcher. How workers end stands in their result, so there is no traceback of it."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        launch_command(launch_command_parser().parse_args())
    except ChildFailedError as error:
        codes = {failure.exitcode for failure in error.failures.values()}
        sys.exit(PeerLost.exit_code if codes == {PeerLost.exit_code} else 1)
    except DistError:  # the launchers did not find together
        sys.exit(PeerLost.exit_code)
    except SignalException:
        sys.exit(1)


if __name__ == "__main__":
    main()
