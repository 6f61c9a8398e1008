"""Run a stage: fetch its inputs from storage, run it in a work folder, publish its output."""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ftjobs import artifacts, stages
from ftjobs.artifacts import Manifest
from ftjobs.data.downloads import download_inputs, open_data_files
from ftjobs.errors import PeerLost
from ftjobs.execution.checkpointing import StorageCheckpointer, Superseded
from ftjobs.execution.heartbeat import Heartbeat
from ftjobs.execution.launcher import WorkerTask, run_workers
from ftjobs.execution.peers import Peers
from ftjobs.execution.status import summarize
from ftjobs.execution.topology import SINGLE_PROCESS, Topology
from ftjobs.jobfile.fields import TrainingFields
from ftjobs.plan import CorpusStage, DataStage, Prepare, Report, StageRun
from ftjobs.storage import Storage
from ftjobs.system import signals
from ftjobs.system.progress import LOG
from ftjobs.tracking import Tracker, check_installed, open_tracker

#: Libraries whose version may change a result or the way a checkpoint loads.
_LIBRARIES = ("ftjobs", "torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors", "numpy")

#: Kind -> prefixes of input files that the stage does not read and that are not fetched: models and corpora.
_UNREAD = {"report": ("model/", "corpus/train", "corpus/held-out"), "corpus": ("model/",)}


def run_all(runs: list[StageRun], storage: Storage) -> list[Manifest]:
    """Run the stages one after another, skipping those that are published; returns the manifest of each."""
    manifests = []
    for position, run in enumerate(runs, start=1):
        manifest = artifacts.find_manifest(storage, run)
        if manifest is not None:
            LOG.info("[%d/%d] %s: already published, %s", position, len(runs), run.title, run.identity[:12])
        else:
            LOG.info("[%d/%d] %s: running", position, len(runs), run.title)
            manifest = run_stage(run, storage)
        manifests.append(manifest)
    return manifests


def run_stage(
    run: StageRun, storage: Storage, topology: Topology = SINGLE_PROCESS, interactive: bool = True
) -> Manifest:
    """Run one stage and publish it, on the node of rank 0. Returns at once if the stage is published.

    Args:
        run: the stage.
        storage: store of inputs and output.
        topology: processes and nodes that run the stage.
        interactive: see `Heartbeat`.

    Raises:
        InputsNotPublished: a stage that it reads is not published.
        PeerLost: another node of the stage was lost.
        UserError, FtjobsError: the stage failed; nothing was published.
    """
    published = artifacts.find_manifest(storage, run)
    if published is not None:
        return published
    started = time.perf_counter()
    with _attempt(run, storage, topology, interactive) as attempt:
        try:
            output, metrics = _produce(run, storage, attempt)
            _add_stage_seconds(output, time.perf_counter() - started)
            attempt.tracker.finish(output, metrics)
            manifest = artifacts.publish(storage, run, output, metrics, environment(run))
        except Superseded:
            LOG.info("%s: published by another attempt in the meantime", run.title)
            manifest = artifacts.require_manifest(storage, run)
        if attempt.checkpointer:
            attempt.checkpointer.clear()
    LOG.info("%s: published in %.1f s, %s", run.title, time.perf_counter() - started, summarize(manifest))
    return manifest


def assist(run: StageRun, storage: Storage, topology: Topology) -> None:
    """Run this node's share of a stage, on nodes of rank 1 and above; returns once rank 0 has published.

    Raises:
        InputsNotPublished: a stage that it reads is not published.
        PeerLost: rank 0 was lost without publishing.
        UserError, FtjobsError: the stage failed.
    """
    if artifacts.find_manifest(storage, run) is not None:
        return
    with _attempt(run, storage, topology) as attempt:
        try:
            _produce(run, storage, attempt)
            attempt.peers.wait_until_published()
        except (PeerLost, Superseded):
            if artifacts.find_manifest(storage, run) is None:
                raise


@dataclass(frozen=True)
class _Attempt:
    """One attempt at a stage: its work folder and the services that accompany it."""

    inputs: dict[str, Manifest]
    """Role -> manifest of the input."""
    work: Path
    topology: Topology
    heartbeat: Heartbeat
    peers: Peers
    tracker: Tracker
    checkpointer: StorageCheckpointer | None
    """None for stages that do not train."""


@contextmanager
def _attempt(run: StageRun, storage: Storage, topology: Topology, interactive: bool = True) -> Iterator[_Attempt]:
    """Begin an attempt: check the inputs and the store, then send heartbeats until the block ends."""
    check_installed(run.tracking)
    inputs = {role: artifacts.require_manifest(storage, read) for role, read in run.inputs.items()}
    storage.check_writable()
    signals.on_stop(storage.stop_retrying)  # after SIGTERM, a store that does not answer must not delay the exit
    with (
        tempfile.TemporaryDirectory(prefix="ftjobs-") as folder,
        Heartbeat(storage, run, interactive, topology) as heartbeat,
    ):
        work, checkpointer = Path(folder), None
        if isinstance(run.settings, TrainingFields):
            checkpointer = StorageCheckpointer(
                storage, run, run.settings.save_every, work, heartbeat if topology.is_main else None
            )
        # With several processes, the worker of rank 0 logs to the tracker instead.
        tracking = open_tracker(run, storage, work) if topology.is_single_process else nullcontext(Tracker())
        peers = Peers(storage, run, topology)
        with (
            closing(checkpointer) if checkpointer else nullcontext(),
            tracking as tracker,
            signals.errors_as_stopped(),
        ):
            yield _Attempt(inputs, work, topology, heartbeat, peers, tracker, checkpointer)


def _produce(run: StageRun, storage: Storage, attempt: _Attempt) -> tuple[Path, dict[str, Any]]:
    """Fetch the inputs and run the stage on them; returns its output folder and metrics."""
    inputs = _fetch_inputs(run, storage, attempt)
    output = attempt.work / "output"
    output.mkdir()
    stage = stages.load(run.kind)
    if isinstance(run.settings, Report):
        return output, stage(run.settings, run.seed, inputs, output, attempt.inputs)
    if isinstance(run.settings, CorpusStage):
        return output, stage(run.settings, run.seed, inputs, output, partial(open_data_files, work=attempt.work))
    if attempt.checkpointer is None:
        settings = run.settings
        if isinstance(settings, Prepare | DataStage):
            settings = download_inputs(settings, attempt.work)
        metrics = stage(settings, run.seed, inputs, output)
    else:
        metrics = _train(run, storage, attempt, attempt.checkpointer, inputs, output)
    if (output / "model").is_dir():
        from ftjobs import cards

        cards.write(run, inputs, output, metrics, environment(run))
    return output, metrics


def _fetch_inputs(run: StageRun, storage: Storage, attempt: _Attempt) -> dict[str, Path]:
    """Fetch every input once, although several roles may name it; returns role -> folder."""
    manifests = {manifest.key: manifest for manifest in attempt.inputs.values()}
    unread = _UNREAD.get(run.kind, ())
    folders = {
        key: artifacts.fetch(storage, manifest, attempt.work, without=unread) for key, manifest in manifests.items()
    }
    return {role: folders[manifest.key] for role, manifest in attempt.inputs.items()}


def _train(
    run: StageRun,
    storage: Storage,
    attempt: _Attempt,
    checkpointer: StorageCheckpointer,
    inputs: dict[str, Path],
    output: Path,
) -> dict[str, Any]:
    """Run a stage that trains, in this process or through the launcher; returns its metrics."""
    if attempt.topology.is_single_process:
        from ftjobs.training.callbacks import TrainingContext

        def log(metrics: dict[str, Any], step: int) -> None:
            attempt.heartbeat.record_metrics(metrics)
            attempt.tracker.log(metrics, step)

        checkpointer.companion = attempt.tracker
        metrics: dict[str, Any] = stages.load(run.kind)(
            run.settings, run.seed, inputs, output, TrainingContext(checkpointer, log)
        )
        return metrics
    attempt.peers.wait_until_alive()  # before looking for training state: all nodes must resume from the same one
    task = WorkerTask(run, storage.uri(""), inputs, output, attempt.work, checkpointer.latest())

    def monitor() -> None:
        attempt.heartbeat.read_progress(task.progress)
        attempt.peers.check()

    return run_workers(task, attempt.topology, monitor)


def environment(run: StageRun) -> dict[str, str]:
    """Return the versions of Python and of the libraries that the result of a stage may depend on."""
    uses_lora = isinstance(run.settings, TrainingFields) and run.settings.lora is not None
    libraries = (*_LIBRARIES, "peft") if uses_lora else _LIBRARIES
    return {"python": platform.python_version(), **{library: version(library) for library in libraries}}


def _add_stage_seconds(output: Path, seconds: float) -> None:
    """Add the duration of the whole stage to `timing.json`: loading, training, evaluating and writing."""
    path = output / "timing.json"
    if path.exists():
        path.write_text(json.dumps({**json.loads(path.read_text()), "stage_seconds": seconds}, indent=1) + "\n")
