"""Runs a stage: fetches its inputs from storage, runs it in a work folder, publishes what it wrote."""

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
from ftjobs.data.downloads import files_at, local_copies
from ftjobs.errors import PeerLost
from ftjobs.execution.checkpointing import StorageCheckpointer, Superseded
from ftjobs.execution.heartbeat import Heartbeat
from ftjobs.execution.launcher import Task, run_together
from ftjobs.execution.peers import Peers
from ftjobs.execution.status import summary
from ftjobs.execution.topology import ALONE, Topology
from ftjobs.jobfile.fields import TrainingFields
from ftjobs.plan import OwnCorpus, OwnData, Prepare, Report, StageRun
from ftjobs.storage import Storage
from ftjobs.system import signals
from ftjobs.system.progress import LOG
from ftjobs.tracking import NotTracked, tracker

#: Libraries whose versions can change a result, or how a checkpoint loads.
_LIBRARIES = ("ftjobs", "torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors", "numpy")

#: What some kinds do not read of what they are given, and need not fetch: models, which the report has no use for, and
#: the passages of corpora.
_UNREAD = {"report": ("model/", "corpus/train", "corpus/held-out"), "corpus": ("model/",)}


def run_all(runs: list[StageRun], storage: Storage) -> list[Manifest]:
    """Run the stages in order, skipping those that are published; returns the manifest of each."""
    manifests = []
    for position, run in enumerate(runs, start=1):
        manifest = artifacts.find(storage, run)
        if manifest is not None:
            LOG.info("[%d/%d] %s: published already, %s", position, len(runs), run.title, run.identity[:12])
        else:
            LOG.info("[%d/%d] %s: running", position, len(runs), run.title)
            manifest = run_stage(run, storage)
        manifests.append(manifest)
    return manifests


def run_stage(run: StageRun, storage: Storage, machines: Topology = ALONE, interactive: bool = True) -> Manifest:
    """Run one stage and publish it; a published one is left as it is.

    Args:
        run: the stage.
        storage: where it reads and publishes.
        machines: the processes that run it.
        attended: as `Heartbeat` has it.

    Raises:
        InputsNotPublished: a stage that it reads has not published.
        UserError, FtjobsError: the stage failed; nothing was published.
    """
    published = artifacts.find(storage, run)
    if published is not None:
        return published
    needed = {role: artifacts.require(storage, read) for role, read in run.inputs.items()}
    storage.check_writable()
    signals.on_stop(storage.hurry)  # a store that is down must not keep a process that was asked to end
    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="ftjobs-") as folder,
        Heartbeat(storage, run, interactive, machines) as life,
        _attempt(run, storage, Path(folder), machines, life) as attempt,
        signals.honoured(),
    ):
        try:
            output, metrics = _produce(run, storage, needed, attempt)
            _add_total_time(output, time.perf_counter() - started)
            attempt.tracked.conclude(output, metrics)
            manifest = artifacts.publish(storage, run, output, metrics, environment(run))
        except Superseded:
            LOG.info("%s: another attempt has published it meanwhile", run.title)
            manifest = artifacts.require(storage, run)
        if attempt.checkpointer:
            attempt.checkpointer.clear()
    LOG.info("%s: published in %.1f s, %s", run.title, time.perf_counter() - started, summary(manifest))
    return manifest


def assist(run: StageRun, storage: Storage, machines: Topology) -> None:
    """Run this machine's share of a stage that the first machine publishes; returns when it has.

    Raises:
        InputsNotPublished: a stage that it reads has not published.
        OtherMachineLost: the first machine ended without publishing.
        UserError, FtjobsError: the stage failed.
    """
    if artifacts.find(storage, run) is not None:
        return
    needed = {role: artifacts.require(storage, read) for role, read in run.inputs.items()}
    storage.check_writable()
    signals.on_stop(storage.hurry)
    with (
        tempfile.TemporaryDirectory(prefix="ftjobs-") as folder,
        Heartbeat(storage, run, machines=machines) as life,
        _attempt(run, storage, Path(folder), machines, life) as attempt,
        signals.honoured(),
    ):
        try:
            _produce(run, storage, needed, attempt)
            attempt.others.wait_until_published()
        except (PeerLost, Superseded):
            if artifacts.find(storage, run) is None:
                raise


@dataclass(frozen=True)
class _Attempt:
    """What goes along with an attempt at a stage."""

    work: Path
    """A folder of its own."""
    life: Heartbeat
    checkpointer: StorageCheckpointer | None
    """None for stages that do not train, and so have no state to keep."""
    machines: Topology
    others: Peers
    tracked: NotTracked


@contextmanager
def _attempt(run: StageRun, storage: Storage, work: Path, machines: Topology, life: Heartbeat) -> Iterator[_Attempt]:
    checkpointer = None
    if isinstance(run.settings, TrainingFields):
        checkpointer = StorageCheckpointer(
            storage, run, run.settings.save_every, work, life if machines.is_main else None
        )
    following = tracker(run, storage, work) if machines.alone else nullcontext(NotTracked())  # or the worker does
    with closing(checkpointer) if checkpointer else nullcontext(), following as tracked:
        yield _Attempt(work, life, checkpointer, machines, Peers(storage, run, machines), tracked)


def _produce(
    run: StageRun, storage: Storage, needed: dict[str, Manifest], attempt: _Attempt
) -> tuple[Path, dict[str, Any]]:
    """Fetch the inputs and run the stage on them; returns the folder it filled and its metrics."""
    work, checkpointer = attempt.work, attempt.checkpointer
    unread = _UNREAD.get(run.kind, ())
    fetched = {
        key: artifacts.fetch(storage, manifest, work, without=unread) for key, manifest in _unique(needed).items()
    }
    inputs = {role: fetched[manifest.key] for role, manifest in needed.items()}
    output = work / "output"
    output.mkdir()
    stage = stages.load(run.kind)
    if isinstance(run.settings, Report):
        return output, stage(run.settings, run.seed, inputs, output, needed)
    if isinstance(run.settings, OwnCorpus):
        return output, stage(run.settings, run.seed, inputs, output, partial(files_at, work=work))
    if checkpointer is None:
        settings = local_copies(run.settings, work) if isinstance(run.settings, Prepare | OwnData) else run.settings
        metrics = stage(settings, run.seed, inputs, output)
    elif not attempt.machines.alone:
        attempt.others.wait_until_there()  # before the newest state is looked for: all are to go on from the same
        task = Task(run, storage.uri(""), inputs, output, work, checkpointer.latest())

        def look() -> None:
            attempt.life.follow(task.progress)
            attempt.others.look()

        metrics = run_together(task, attempt.machines, look)
    else:
        from ftjobs.training.context import TrainingContext

        def tell(found: dict[str, Any], step: int) -> None:
            attempt.life.hear(found)
            attempt.tracked.log(found, step)

        checkpointer.companion = attempt.tracked
        metrics = stage(run.settings, run.seed, inputs, output, TrainingContext(checkpointer, tell))
    if (output / "model").is_dir():
        from ftjobs import cards

        cards.write(run, inputs, output, metrics, environment(run))
    return output, metrics


def environment(run: StageRun) -> dict[str, str]:
    """Versions of what its result may depend on."""
    low_rank = isinstance(run.settings, TrainingFields) and run.settings.lora is not None
    libraries = (*_LIBRARIES, "peft") if low_rank else _LIBRARIES
    return {"python": platform.python_version(), **{library: version(library) for library in libraries}}


def _unique(manifests: dict[str, Manifest]) -> dict[str, Manifest]:
    return {manifest.key: manifest for manifest in manifests.values()}


def _add_total_time(output: Path, seconds: float) -> None:
    """Complete `timing.json` with the whole time of the stage: loading, training, evaluating, writing."""
    path = output / "timing.json"
    if path.exists():
        path.write_text(json.dumps({**json.loads(path.read_text()), "stage_seconds": seconds}, indent=1) + "\n")
