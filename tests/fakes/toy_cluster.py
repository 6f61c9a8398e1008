"""A small pipeline, and a fake Job controller and kubelet that run it within milliseconds, without containers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ftjobs import artifacts
from ftjobs.artifacts import Manifest
from ftjobs.jobfile.read import read
from ftjobs.kubernetes.api_objects import PipelineJobs
from ftjobs.kubernetes.cluster_client import ClusterClient
from ftjobs.kubernetes.controller import Controller
from ftjobs.kubernetes.stage_jobs import PIPELINE, STAGE, SUSPENDED, StageJob, stage_jobs
from ftjobs.plan import plan
from ftjobs.storage import Storage
from tests.fakes.kubernetes_api import ApiServer, Json

JOB = """\
name: toy
encoder: {model: me/encoder}
data: {source: me/pairs, text: [a, b], label: same, split: {test_fraction: 0.1}}
seeds: [1, 2]
stages:
  adapt: {kind: adapt}
  plain: {kind: classify}
  adapted: {kind: classify, encoder: adapt}
"""


def toy_stages(folder: Path, *overrides: str, nodes: int = 1) -> list[StageJob]:
    """prepare -> adapt -> adapted, prepare -> plain, all -> report; two seeds."""
    path = folder / "toy.yaml"
    path.write_text(JOB)
    return stage_jobs(plan(read(path, overrides)), nodes)


def manifest(stage: StageJob) -> Json:
    """The Job of a stage, reduced to the fields that controller and fake read."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": stage.name, "labels": {PIPELINE: stage.pipeline, STAGE: stage.stage}},
        "spec": {"suspend": True, "completionMode": "Indexed", "completions": stage.completions},
    }


class ToyCluster:
    """Run released Jobs, one completion index per step, by publishing small artifacts."""

    def __init__(self, api: ApiServer, stages: list[StageJob], storage: Storage, folder: Path) -> None:
        self.api, self.stages, self.storage, self.folder = api, stages, storage, folder
        self.fails: dict[str, set[int]] = {}
        """Stage -> completion indexes that fail permanently."""
        self.forgets: set[str] = set()
        """Stages that succeed without publishing."""
        self.ran: list[str] = []
        self.too_early: list[str] = []
        """Runs that started before their inputs were published; must stay empty."""

    def named(self, stage: str) -> StageJob:
        """The Job of a stage."""
        return next(job for job in self.stages if job.stage == stage)

    def suspend_reason(self, stage: str) -> str | None:
        """The annotation of its Job with the reason for the suspension."""
        reason: str | None = self.api.jobs[self.named(stage).name]["metadata"].get("annotations", {}).get(SUSPENDED)
        return reason

    def is_suspended(self, stage: str) -> bool:
        """Return whether the Job of a stage is suspended."""
        return bool(self.api.jobs[self.named(stage).name]["spec"]["suspend"])

    def everything_ran(self) -> bool:
        """All stages and seeds, and nothing too early."""
        return self.too_early == [] and set(self.ran) == {run.title for stage in self.stages for run in stage.runs}

    def apply(self) -> None:
        """Apply the manifests of all stages, once more or for the first time."""
        self.api.apply(*(manifest(stage) for stage in self.stages))

    def publish(self, stage: StageJob, index: int) -> None:
        """Publish a run's artifact, as its pod would."""
        output = self.folder / stage.name / str(index)
        output.mkdir(parents=True, exist_ok=True)
        (output / "report.md").write_text(stage.runs[index].title)
        artifacts.publish(self.storage, stage.runs[index], output, {}, {})

    def step(self) -> bool:
        """Run one pod to its end, or end one Job; False if there is nothing to do."""
        return any(self._step(stage) for stage in self.stages)

    def _step(self, stage: StageJob) -> bool:
        job = self.api.jobs.get(stage.name)
        if job is None or job["spec"]["suspend"] or job.get("status", {}).get("conditions"):
            return False
        status = job.get("status", {})
        done, failed = _parse_indexes(status.get("completedIndexes")), _parse_indexes(status.get("failedIndexes"))
        for index, run in enumerate(stage.runs):
            if index in done | failed:
                continue
            if any(artifacts.find_manifest(self.storage, source) is None for source in run.inputs.values()):
                self.too_early.append(run.title)
            self.ran.append(run.title)
            if index in self.fails.get(stage.stage, ()):
                self._status(stage, {"failedIndexes": _format_indexes(failed | {index}), "failed": len(failed) + 1})
            else:
                if stage.stage not in self.forgets:
                    self.publish(stage, index)
                self._status(stage, {"completedIndexes": _format_indexes(done | {index}), "succeeded": len(done) + 1})
            return True
        end = (
            {"type": "Failed", "reason": "FailedIndexes", "message": "Job has failed indexes"}
            if failed
            else {"type": "Complete"}
        )
        self._status(stage, {"conditions": [{"status": "True", **end}]})
        return True

    def _status(self, stage: StageJob, status: Json) -> None:
        self.api.change(stage.name, {"status": status})

    @contextmanager
    def running(self, seconds_between_steps: float = 0.01) -> Iterator[None]:
        """Take steps in a thread while the block runs."""
        ended = threading.Event()

        def run() -> None:
            while not ended.wait(seconds_between_steps):
                self.step()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def conduct(toy: ToyCluster, queue: str | None = None) -> Manifest:
    """Run a controller in this thread until the pipeline ends."""
    return Controller(toy.stages, toy.storage, PipelineJobs(ClusterClient(), "toy"), queue).run()


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"condition not reached within {seconds} s"
        time.sleep(0.005)


def _parse_indexes(text: str | None) -> set[int]:
    return {int(part) for part in (text or "").split(",") if part}


def _format_indexes(numbers: set[int]) -> str:
    return ",".join(map(str, sorted(numbers)))
