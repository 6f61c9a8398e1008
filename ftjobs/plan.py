"""A job's stages in the order they run, each with the identity of its result.

An identity is a sha256 over everything that decides a stage's result: its settings, the identities of the stages it
reads, its seed, and the version of that kind of stage. It is known before anything runs, so a stage whose identity is
published already is never run again. Settings that are at their defaults are left out of it, so that a new setting
changes no identity of jobs that do not use it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from ftjobs.errors import UserError
from ftjobs.jobfile.content import of_corpus, of_data, of_encoder
from ftjobs.jobfile.fields import Adapt, Classify, Corpus, CorpusSource, Data, Encoder, Fields, Job, Tracking
from ftjobs.jobfile.implicit_stages import ImplicitStage, derived, users
from ftjobs.jobfile.resolved import resolved

#: Raise a kind's number when its code, or a default, starts to give other results for the same settings.
STAGE_VERSIONS = {"prepare": 3, "data": 1, "corpus": 2, "adapt": 5, "classify": 4, "report": 3}
#: Kinds that run once for all seeds, and what stands where a seed would.
_WITHOUT_SEEDS = ("prepare", "data", "corpus", "report")
NO_SEED = 0
NO_TRACKING = Tracking()


class Prepare(Fields):
    """Settings of the `prepare` stage: the job's encoder and data."""

    encoder: Encoder
    data: Data


class OwnData(Fields):
    """Settings of a `data` stage: data that stages have to themselves."""

    stage: str
    """The first of these stages."""
    data: Data


class OwnCorpus(Fields):
    """Settings of a `corpus` stage: passages that adapt stages have to themselves."""

    stage: str
    """The first of these stages."""
    corpus: CorpusSource


class Report(Fields):
    """Settings of the `report` stage."""

    pipeline: str
    stages: list[str]
    hypotheses: list[str]
    own_data: dict[str, str] = Field(default={})
    """Stages with data of their own, and the stage that brings it."""
    corpora: dict[str, str] = Field(default={})
    """Stages with a corpus of their own, and the stage that brings it."""
    job: dict[str, Any]
    """The job as resolved: every field with its default filled in, and nothing that names this machine."""


Settings = Prepare | OwnData | OwnCorpus | Adapt | Classify | Report


@dataclass(frozen=True)
class StageRun:
    """One stage with one seed: what a container runs, and what one artifact holds."""

    pipeline: str
    stage: str
    kind: str
    seed: int
    settings: Settings
    identity: str
    inputs: dict[str, StageRun] = field(default_factory=dict)
    tracking: Tracking = NO_TRACKING
    """Where the run is logged; changes no result, so it is no part of the identity."""

    @property
    def key(self) -> str:
        """Where the artifact lives in storage, without a slash at the end."""
        return artifact_key(self.pipeline, self.stage, self.seed, self.identity)

    @property
    def has_seed(self) -> bool:
        """Whether the stage is repeated for every seed: those that train are."""
        return self.kind not in _WITHOUT_SEEDS

    @property
    def data(self) -> StageRun:
        """The stage that brings the data that this one works on: `prepare`, unless it has data of its own."""
        return self.inputs.get("data") or self.inputs["prepare"]

    @property
    def title(self) -> str:
        """The stage as messages name it: `head seed 42`, or `prepare` for stages without seeds."""
        return f"{self.stage} seed {self.seed}" if self.has_seed else self.stage


def artifact_key(pipeline: str, stage: str, seed: int, identity: str) -> str:
    """Where an artifact lives in storage."""
    return f"{pipeline}/{stage}/seed-{seed}/{identity[:12]}"


def plan(job: Job) -> list[StageRun]:
    """All stages of a job, one entry per stage and seed, each after the stages it reads.

    Raises:
        UserError: a local file or folder that the job names is not there.
    """
    prepare_settings = Prepare(encoder=job.encoder, data=job.data)
    prepare = _stage_run(job, "prepare", "prepare", NO_SEED, prepare_settings, {}, _prepare_content(prepare_settings))
    brought = {one.name: _bringing(job, one, prepare) for one in derived(job)}
    needs = users(job)
    runs: dict[tuple[str, int], StageRun] = {}
    for name in _in_order(job):
        settings = job.stage(name)
        content = settings.model_dump(exclude={"encoder", "kind", "save_every", "data"}, exclude_defaults=True)
        if isinstance(settings, Adapt) and isinstance(settings.corpus, Corpus):  # the rest decides through the input
            content["corpus"] = settings.corpus.model_dump(include=Corpus.use(), exclude_defaults=True)
        if content.get("metric_for_best") == job.task(name).default_metric.key:
            del content["metric_for_best"]
        own: dict[str, StageRun] = {needs[name].kind: brought[needs[name].name]} if name in needs else {}
        for seed in job.seeds:
            source = prepare if settings.encoder is None else runs[settings.encoder, seed]
            inputs = {"prepare": prepare, "encoder": source, **own}
            runs[name, seed] = _stage_run(job, name, settings.kind, seed, settings, inputs, content)
    bringing = {
        kind: {name: one.name for name, one in needs.items() if one.kind == kind} for kind in ("data", "corpus")
    }
    report_settings = Report(
        pipeline=job.name,
        stages=list(job.stages),
        hypotheses=job.hypotheses,
        own_data=bringing["data"],
        corpora=bringing["corpus"],
        job=resolved(job),
    )
    trained = {f"{run.stage}/seed-{run.seed}": run for run in runs.values()}
    inputs = {"prepare": prepare, **brought, **trained}
    # What else the job as resolved holds decides through the identities of what the report reads.
    content = report_settings.model_dump(exclude={"job", "own_data", "corpora"})
    content |= {"seeds": job.seeds, "encoders": {name: job.stage_encoder(name) for name in job.stages}}
    report = _stage_run(job, "report", "report", NO_SEED, report_settings, inputs, content)
    return [prepare, *brought.values(), *runs.values(), report]


def _bringing(job: Job, one: ImplicitStage, prepare: StageRun) -> StageRun:
    """A stage that brings what others ask for. A corpus without test texts needs to know these."""
    stage, field = one.users[0], ".".join(one.field)
    if isinstance(one.settings, CorpusSource):
        inputs = {"prepare": prepare} if one.settings.decontaminate else {}
        content: dict[str, Any] = {"corpus": of_corpus(one.settings, field)}
        return _stage_run(
            job, one.name, one.kind, NO_SEED, OwnCorpus(stage=stage, corpus=one.settings), inputs, content
        )
    content = {"data": of_data(one.settings, field)}
    return _stage_run(job, one.name, one.kind, NO_SEED, OwnData(stage=stage, data=one.settings), {}, content)


def select(runs: list[StageRun], stage: str, seed: int | None = None) -> StageRun:
    """The run of one stage; with several seeds, `seed` says which.

    Raises:
        UserError: no such stage or seed, or a seed is needed to choose.
    """
    found = [run for run in runs if run.stage == stage]
    if not found:
        names = ", ".join(dict.fromkeys(run.stage for run in runs))
        raise UserError(f"there is no stage `{stage}`; the stages are: {names}")
    if not found[0].has_seed:
        return found[0]
    seeds = [run.seed for run in found]
    if seed is None and len(found) > 1:
        raise UserError(f"stage `{stage}` has the seeds {', '.join(map(str, seeds))}; choose one with --seed")
    for run in found:
        if seed is None or run.seed == seed:
            return run
    raise UserError(f"stage `{stage}` has no seed {seed}; its seeds are: {', '.join(map(str, seeds))}")


def select_index(runs: list[StageRun], stage: str, index: int) -> StageRun:
    """The run of one stage by the position of its seed in the job file; 0 for stages without seeds.

    Raises:
        UserError: no such stage or position.
    """
    select(runs, stage, next((run.seed for run in runs if run.stage == stage), None))  # says it if there is none
    found = [run for run in runs if run.stage == stage]
    if not 0 <= index < len(found):
        raise UserError(f"stage `{stage}` has no seed number {index}; count from 0 to {len(found) - 1}")
    return found[index]


def _in_order(job: Job) -> list[str]:
    """Stage names in the file's order, except that a stage comes after the one whose encoder it takes."""
    ordered: dict[str, None] = {}
    for stage in job.stages:
        chain: list[str] = []
        name: str | None = stage
        while name is not None and name not in ordered:
            chain.append(name)
            name = job.stage_encoder(name)
        ordered |= dict.fromkeys(reversed(chain))
    return list(ordered)


def _stage_run(
    job: Job,
    stage: str,
    kind: str,
    seed: int,
    settings: Settings,
    inputs: dict[str, StageRun],
    content: dict[str, Any],
) -> StageRun:
    decides = {
        "kind": kind,
        "version": STAGE_VERSIONS[kind],
        "seed": seed,
        "settings": content,
        "inputs": {role: run.identity for role, run in inputs.items()},
    }
    canonical = json.dumps(decides, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    identity = hashlib.sha256(canonical.encode()).hexdigest()
    return StageRun(job.name, stage, kind, seed, settings, identity, inputs, job.tracking)


def _prepare_content(settings: Prepare) -> dict[str, Any]:
    content = settings.model_dump(exclude_defaults=True)
    content["data"] = of_data(settings.data, "data")
    if files := of_encoder(settings.encoder):
        content["encoder"] = {"files": files}
    return content
